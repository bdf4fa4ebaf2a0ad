"""What things cost this month, beside whatever list they are in."""

from django import template

from runs.usage import totals
from teammates.access import Access
from teammates.types import JSON

register = template.Library()


@register.simple_tag
def sums_of_month(access: Access, column: str) -> dict[int, JSON] | None:
    """By the ids of a column of the daily sums, as of members (`created_by`) or keys; None for
    those who do not see what others spend. One query."""
    return totals.this_month_by(access, column) if access.may("data.usage.read") else None


@register.filter
def of_one(sums: dict[int, JSON], key: int) -> JSON:
    """The sums of an id; empty if it used nothing."""
    return sums.get(key, {})
