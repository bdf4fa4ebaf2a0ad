"""Finding runs for a list."""

from dataclasses import replace
from typing import Any

from django.template.loader import render_to_string

from runs.models import Run, RunStatus
from runs.queries import lookup
from teammates.access import Access
from teammates.models import EndUser
from tests.factories import make_run, with_key


def test_a_row_shows_all_of_a_run_and_asks_for_nothing_more(
    alice: Access, django_assert_num_queries: Any
) -> None:
    customer = EndUser.objects.create(organization=alice.organization, external_id="customer-7")
    of_key = replace(with_key(alice), user=None)
    for access in (alice, of_key, replace(alice, end_user=customer)):
        for status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.FAILED):
            make_run(access, message=f"{status} words", status=status)
    with django_assert_num_queries(2):
        runs = lookup.page(Run.objects.visible_to(alice).newest_first(), 50)
        page = render_to_string("runs/_table.html", {"runs": runs, "may_choose": True})
    assert len(runs) == 9
    for words in ("failed words", "customer-7", "Key ", alice.require_person().display_name):
        assert words in page
