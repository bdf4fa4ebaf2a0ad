"""Threads and their messages."""

import pytest

from teammates.access import Access
from teammates.errors import Invalid
from threads import conversations


def test_the_first_words_name_a_conversation_in_any_script(alice: Access) -> None:
    for text in ("中" * 70, "ก" * 300, "🙂 " * 90):
        thread, message = conversations.open_with(alice, text)
        thread.refresh_from_db()
        assert thread.title
        assert message.content == text
    with pytest.raises(Invalid):
        conversations.open_with(alice, "Hello", title="中" * 70)
