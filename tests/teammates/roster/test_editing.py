"""Teammates: made, edited, archived."""

import pytest

from teammates.access import Access
from teammates.roster import editing
from teammates.roster.editing import EditedMeanwhile

pytestmark = pytest.mark.django_db


def test_of_two_who_edit_the_same_version_the_second_is_told(alice: Access) -> None:
    ada = editing.create_teammate(alice, name="Ada", visibility="organization")
    first = editing.update_teammate(alice, ada, base=1, instructions="Be kind.")
    assert first.current_version.number == 2
    with pytest.raises(EditedMeanwhile, match="Alice saved v2 while you edited v1"):
        editing.update_teammate(alice, ada, base=1, instructions="Be quick.")
    second = editing.update_teammate(alice, ada, base=2, instructions="Be quick.")
    assert second.current_version.instructions == "Be quick."
