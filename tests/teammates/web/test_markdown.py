"""What Markdown is drawn as."""

from teammates.web.markdown import render


def test_a_json_object_alone_is_drawn_as_code() -> None:
    assert '<code class="language-json">' in render('{"total": 3}\n')
    for text in ('{"total": }', "{a} and {b}", '{"a": 1} is it', "[1]", "{" * 2_000 + "}"):
        assert "language-json" not in render(text)
