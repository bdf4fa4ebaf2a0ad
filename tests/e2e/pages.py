"""Every page of the dashboard, for tests that look at each."""

PAGES = [
    "/", "/?first-steps", "/needs-you/", "/needs-you/?tab=team", "/needs-you/?tab=done",
    "/threads/", "/threads/?q=nothing-says-this", "/threads/new/", "/teammates/",
    "/teammates/?archived", "/teammates/new/", "/teammates/templates/", "/runs/", "/runs/?q=",
    "/runs/?q=status:failed", "/runs/?q=nonsense:1", "/runs/?group=error", "/files/",
    "/files/?q=zzz", "/usage/", "/usage/?by=teammate&measure=runs&period=90d",
    "/search/?q=long", "/search/", "/settings/", "/settings/appearance/", "/settings/models/",
    "/settings/members/", "/settings/end-users/", "/settings/keys/", "/settings/tools/",
    "/settings/tools/web_fetch/", "/settings/apps/", "/settings/permissions/",
    "/settings/memories/", "/settings/skills/", "/settings/skills/new/", "/settings/reports/",
    "/settings/audit/", "/settings/account/", "/status", "/demo/",
]  # fmt: skip
# Of those, what only owners and admins see.
ADMIN_PAGES = [
    "/settings/members/", "/settings/end-users/", "/settings/reports/", "/settings/audit/",
    "/settings/skills/new/",
]  # fmt: skip
RUN_TABS = (
    "timeline", "messages", "events", "files", "approvals", "context", "attempts", "children",
)  # fmt: skip
TEAMMATE_TABS = ("overview", "setup", "versions", "triggers", "memory", "files", "access")
