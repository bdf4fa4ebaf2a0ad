"""The home page, and the page that explains the demo model."""

from datetime import timedelta

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from runs.models import Channel, Notice, NoticeKind, Run, RunStatus
from teammates.models import Teammate
from teammates.pages import PageRequest
from teammates.providers import demo


def home(request: PageRequest) -> HttpResponse:
    """What goes on, and whom one can talk to."""
    access = request.access
    runs = Run.objects.visible_to(access)
    day = timezone.now() - timedelta(days=1)
    teammates = Teammate.objects.visible_to(access).current().filter(end_user=None).with_version()
    return render(request, "runs/home.html", {
        "needs_you_runs": runs.needing_a_person().with_names().newest_first()[:10],
        "notices": Notice.objects.filter(
            user=access.user, kind=NoticeKind.MESSAGE, dismissed_at=None,
            run__organization=access.organization,
        ).select_related("run__teammate").order_by("-id")[:10],
        "running": runs.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING])[:1000].count(),
        "failed": runs.filter(status=RunStatus.FAILED, created_at__gte=day)[:1000].count(),
        "today": runs.filter(created_at__gte=day)[:10_000].count(),
        "is_new_here": not runs.filter(channel=Channel.APP).exists(),
        "recent": runs.with_names().newest_first()[:8],
        "teammates": teammates.order_by("id")[:12],
        "chosen": access.organization.default_teammate_id,
    })  # fmt: skip


def demo_words(request: PageRequest) -> HttpResponse:
    return render(request, "runs/demo.html", {"words": demo.WORDS})
