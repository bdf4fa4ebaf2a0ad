"""What Markdown is drawn as."""

from teammates.web.markdown import render


def test_a_json_object_alone_is_drawn_as_code() -> None:
    assert '<code class="language-json">' in render('{"total": 3}\n')
    assert "1.10" in render('{"price": 1.10, "a": 1, "a": 2}')  # nothing is said in other words
    deep = '{"a":' * 90 + "[" + "1," * 80_000 + "1]" + "}" * 90
    assert len(render(deep)) < 10 * len(deep)
    for text in ('{"total": }', "{a} and {b}", '{"a": 1} is it', "[1]", "{" * 2_000 + "}"):
        assert "language-json" not in render(text)
