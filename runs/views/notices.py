"""Which notices a person is mailed, and a test of it."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs.models import NoticeKind
from runs.notifications import notices
from teammates.models import Digest
from teammates.people import account_mail, members
from teammates.web.pages import PageRequest

EXPLAINED = {
    NoticeKind.NEEDS_YOU: ("A decision waits", "After a minute, with a link that decides once."),
    NoticeKind.RESULT: ("A result", "Of a run that nobody watched, unless you looked at it."),
    NoticeKind.MESSAGE: ("A teammate says something", "Also on your home page."),
    NoticeKind.TROUBLE: (
        "Something stopped, or costs much",
        "A schedule or a webhook was paused by itself; a budget is nearly spent; a run, or a day, "
        "costs far more than others did.",
    ),
}


@require_http_methods(["GET", "POST"])
def notice_settings(request: PageRequest) -> HttpResponse:
    """Kinds of notices, each by mail or not."""
    access = request.access
    if request.method == "POST":
        wanted = set(request.POST.getlist("mailed"))
        members.choose_mails(
            access,
            not_mailed=[kind for kind in EXPLAINED if kind not in wanted],
            digest=request.POST.get("digest", ""),
        )
        messages.success(request, "Saved.")
        return redirect("runs:notice_settings")
    off = members.not_mailed(access)
    return render(
        request,
        "settings/notice_settings.html",
        {
            "kinds": [(kind, *said, kind not in off) for kind, said in EXPLAINED.items()],
            "digests": Digest.choices,
            "digest": members.digest_of(access),
            "sends": account_mail.sends(),
            "last": notices.latest_of(access)[:10],
        },
    )


@require_POST
def notice_test(request: PageRequest) -> HttpResponse:
    """Mail the person something now."""
    user = request.access.user
    assert user is not None
    context = {"user": user, "organization": request.access.organization}
    if account_mail.send(user.email, "A test from Muster", "test", context):
        messages.success(
            request,
            f"A test is on its way to {user.email}. The server's log says if it is refused.",
        )
    elif account_mail.sends():
        messages.error(request, "The mail server refused it; the log of the server says why.")
    else:
        messages.success(request, "No mail server is set, so the test lies in the data folder.")
    return redirect("runs:notice_settings")
