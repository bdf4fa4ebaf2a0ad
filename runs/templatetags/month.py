"""What things cost this month, beside whatever list they are in."""

from django import template

from runs.usage import totals
from runs.usage.periods import Span, period, today
from teammates.access import Access
from teammates.types import JSON

register = template.Library()


@register.simple_tag
def sums_of_month(access: Access, column: str) -> dict[int, JSON] | None:
    """By the ids of a column of the daily sums, as of members (`created_by`) or keys, of the
    organization's own days; None for those who do not see what others spend. One query."""
    if not access.may("data.usage.read"):
        return None
    zone = access.organization.zone
    month = Span(period(zone)[0], today(zone))
    return totals.by_id(totals.within(totals.days_of(access), month), column)


@register.filter
def of_one(sums: dict[int, JSON], key: int) -> JSON:
    """The sums of an id; empty if it used nothing."""
    return sums.get(key, {})
