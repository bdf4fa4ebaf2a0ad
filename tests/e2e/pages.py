"""Every page of the dashboard, for tests that look at each."""

import httpx2

from tests.conftest import Server

PAGES = [
    "/",
    "/?first-steps",
    "/needs-you/",
    "/needs-you/?tab=team",
    "/needs-you/?tab=done",
    "/tasks/",
    "/tasks/?q=zzz",
    "/tasks/agenda/",
    "/tasks/log/",
    "/tasks/new/",
    "/webhooks/",
    "/webhooks/new/",
    "/settings/notifications/",
    "/settings/mail/",
    "/threads/",
    "/threads/?q=nothing-says-this",
    "/threads/new/",
    "/teammates/",
    "/teammates/?archived",
    "/teammates/new/",
    "/teammates/templates/",
    "/runs/",
    "/runs/?q=",
    "/runs/?q=status:failed",
    "/runs/?q=nonsense:1",
    "/runs/?group=error",
    "/files/",
    "/files/?q=zzz",
    "/usage/",
    "/usage/?by=teammate&measure=runs&period=90d",
    "/search/?q=long",
    "/search/",
    "/settings/",
    "/settings/appearance/",
    "/settings/models/",
    "/settings/members/",
    "/settings/end-users/",
    "/settings/keys/",
    "/settings/budgets/",
    "/settings/documents/meaning/",
    "/settings/tools/",
    "/settings/tools/web_fetch/",
    "/settings/apps/",
    "/settings/permissions/",
    "/settings/memories/",
    "/settings/skills/",
    "/settings/skills/new/",
    "/settings/reports/",
    "/settings/audit/",
    "/settings/account/",
    "/settings/links/",
    "/status",
    "/demo/",
]
# Of those, what only owners and admins see.
ADMIN_PAGES = [
    "/settings/members/",
    "/settings/end-users/",
    "/settings/budgets/",
    "/settings/reports/",
    "/settings/audit/",
    "/settings/skills/new/",
    "/webhooks/",
    "/webhooks/new/",
    "/settings/mail/",
    "/status",
]
RUN_TABS = (
    "timeline",
    "messages",
    "events",
    "files",
    "approvals",
    "context",
    "attempts",
    "children",
)
TASK_TABS = ("overview", "history", "triggers", "lessons", "setup")
TEAMMATE_TABS = ("overview", "setup", "versions", "triggers", "memory", "files", "access")


def of_task(task: int) -> list[str]:
    tabs = [f"/tasks/{task}/?tab={tab}" for tab in TASK_TABS]
    return [*tabs, f"/tasks/{task}/schedules/new/"]


def of_webhook(webhook: int) -> list[str]:
    return [f"/webhooks/{webhook}/", f"/webhooks/{webhook}/change/"]


def of_work(site: Server) -> list[str]:
    """Pages of a task that something starts, and of a webhook, both made here."""
    with site.client() as client:
        task = (
            client.post(
                "/api/v2/tasks",
                json={
                    "teammate_id": 1,
                    "name": "Orders",
                    "instructions": "Sort the orders.",
                    "schedule": "30 2 * * *",
                    "schedule_timezone": "Europe/Berlin",
                    "webhook": True,
                },
            )
            .raise_for_status()
            .json()
        )
        for event in ("evt_1", "evt_1"):
            httpx2.post(
                task["webhook_url"],
                json={"order": 4411},
                headers={"Webhook-Id": event},
                trust_env=False,
            ).raise_for_status()
        client.post(
            f"/api/v2/tasks/{task['id']}/triggers", json={"type": "email"}
        ).raise_for_status()
        hook = (
            client.post(
                "/api/v2/webhooks",
                json={
                    "url": "https://hooks.example.com/" + "long" * 30,
                    "events": ["run.started"],
                },
            )
            .raise_for_status()
            .json()
        )
    return [*of_task(task["id"]), *of_webhook(hook["id"])]
