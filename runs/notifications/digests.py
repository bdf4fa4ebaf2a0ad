"""Mails of what was used, and what it cost, the day or the week before."""

from datetime import date, timedelta

from django.db import transaction
from django.db.models import (
    DateField,
    DateTimeField,
    F,
    Func,
    IntegerField,
    Q,
    QuerySet,
    Value,
)
from django.urls import reverse
from django.utils import timezone

from runs.budgets import report as budgets
from runs.models import Notice, NoticeKind, Run
from runs.models.run_query import LocalDay
from runs.usage.periods import Span
from runs.usage.report import Sums, UsageReport, report
from teammates.access import Access
from teammates.models import Digest, Membership
from teammates.templatetags.muster import money, percent, spent

FROM_HOUR = 7  # of the organization's day
MOST_AT_ONCE = 20
MOST_GROUPS = 5


def write_due() -> int:
    """Write the digests that are due; returns how many people were looked at."""
    found = list(_due().values_list("pk", flat=True)[:MOST_AT_ONCE])
    for pk in found:
        with transaction.atomic():
            locked = _due().select_for_update(skip_locked=True, of=("self",), no_key=True)
            member = locked.select_related("organization", "user").filter(pk=pk).first()
            if member is not None:  # else another worker wrote it
                _write(member)
    return len(found)


def _due() -> "QuerySet[Membership]":
    """Those whose last digest was before today's, or this week's, in a place where the day has
    begun to be worked in."""
    here = Value(timezone.now(), output_field=DateTimeField()), F("organization__timezone")
    hour = Func(
        *here,
        template="extract(hour FROM %(expressions)s)::int",
        arg_joiner=" AT TIME ZONE ",
        output_field=IntegerField(),
    )
    monday = Func(
        *here,
        template="date_trunc('week', %(expressions)s)::date",
        arg_joiner=" AT TIME ZONE ",
        output_field=DateField(),
    )
    members = Membership.objects.alias(hour=hour, today=LocalDay(*here), monday=monday)
    of_day = Q(digest=Digest.DAILY) & (Q(digest_on=None) | Q(digest_on__lt=F("today")))
    of_week = Q(digest=Digest.WEEKLY) & (Q(digest_on=None) | Q(digest_on__lt=F("monday")))
    return members.filter(
        of_day | of_week,
        hour__gte=FROM_HOUR,
        user__is_active=True,
        organization__closed_at=None,
    ).order_by("pk")


def _write(member: Membership) -> None:
    """Nothing is mailed of a time in which nothing was used."""
    today = timezone.now().astimezone(member.organization.zone).date()
    member.digest_on = today
    member.save(update_fields=["digest_on"])
    access = Access(organization=member.organization, role=member.role, user=member.user)
    if member.digest == Digest.WEEKLY:
        monday = today - timedelta(days=today.weekday())
        span = Span(monday - timedelta(days=7), monday - timedelta(days=1))
    else:
        span = Span(today - timedelta(days=1), today - timedelta(days=1))
    used = report(access, span, by=["teammate"], measure="cost")
    run = Run.objects.visible_to(access).ended_within(span.start, span.end).order_by("-pk").first()
    if not used.sums.runs or run is None:
        return
    Notice.objects.create(
        user=member.user,
        run=run,
        kind=NoticeKind.DIGEST,
        title=f"{member.organization}: {spent(used.sums)} {_when(span)}"[:200],
        text=_said(access, used),
        path=f"{reverse('runs:usage')}?period=custom&start={span.start}&end={span.end}",
    )


def _when(span: Span) -> str:
    if span.length == 1:
        return f"on {_day(span.start)}"
    return f"from {_day(span.start)} to {_day(span.end)}"


def _day(day: date) -> str:
    return f"{day:%A, %-d %B}"


def _said(access: Access, used: UsageReport) -> str:
    before = f"{spent(used.before)} in the {used.span.length} days before"
    if used.span.length == 1:
        before = f"{spent(used.before)} the day before"
    change = "" if used.change is None else f"{used.change:+.0%} against "
    lines = [
        f"Spent: {spent(used.sums)}, {change}{before}.",
        f"Runs: {used.sums.runs:,}; failed ones cost {spent(used.lost['failed'])}, cancelled ones "
        f"{spent(used.lost['cancelled'])}.",
    ]
    if used.saved_share:
        saved = f"{money(used.saved_by_cache)}, {percent(used.saved_share)}"
        lines.append(f"Saved by caching: {saved} of what it would have cost.")
    lines += ["", "By teammate:"]
    lines += [
        f"- {group.name}: {spent(group.sums)}, {group.sums.runs:,} runs"
        for group in used.groups[:MOST_GROUPS]
    ]
    if more := used.groups[MOST_GROUPS:]:
        others = Sums.of(vars(group.sums) for group in more)
        lines.append(f"- {len(more)} others: {spent(others)}")
    return "\n".join(lines + _budgets(access))


def _budgets(access: Access) -> list[str]:
    if not access.may("data.budgets.manage"):
        return []
    uses = [use for use in budgets.uses(access, looks_back=False) if not use.is_per_run]
    said = [f"- {money(use.used)} spent of {use.budget}" for use in uses]
    return ["", "Budgets:", *said] if said else []
