"""Thoughts between tags, however a server cuts the pieces."""

import pytest

from teammates.providers.think_tags import ThinkTags


def cut(*pieces: str) -> list[str]:
    tags = ThinkTags()
    found = [part for piece in pieces for part in tags.cut(piece)]
    rest = tags.rest()
    return [*found, rest] if rest else found


WHOLE = "<think>Hm, 1 < 2.</think>\n\nHello <b>you</b>"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_a_tag_is_a_piece_of_its_own_wherever_it_is_cut(size: int) -> None:
    pieces = cut(*(WHOLE[at : at + size] for at in range(0, len(WHOLE), size)))
    begin, end = pieces.index("<think>"), pieces.index("</think>")
    assert begin == 0
    assert "".join(pieces[begin + 1 : end]) == "Hm, 1 < 2."
    assert "".join(pieces[end + 1 :]) == "Hello <b>you</b>"


def test_white_space_before_the_thoughts_is_none_of_the_answer() -> None:
    assert cut("\n", " <thi", "nk>a</think>b") == ["<think>", "a", "</think>", "b"]


@pytest.mark.parametrize(
    "pieces", [("Use <think> so.",), ("<", "b>bold"), ("<thin", "g>"), ("", "<"), ("  ",)]
)
def test_what_is_no_tag_at_the_beginning_is_the_answer(pieces: tuple[str, ...]) -> None:
    assert "".join(cut(*pieces)) == "".join(pieces)
    assert "<think>" not in cut(*pieces)


def test_thoughts_that_never_end_are_thoughts() -> None:
    assert "".join(cut("<think>", "a </thin")) == "<think>a </thin"
