"""What the READMEs and pages say is held against the code."""

import re
from pathlib import Path

import pytest

from runs.lifecycle.transitions import TRANSITIONS
from runs.models import RunStatus
from teammates import tools
from teammates.providers import demo, demo_script
from teammates.providers.base import ModelRequest, ProviderError, ToolSpec, UserMessage

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_of_states_in_the_readme_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| (\w+) \| (.+) \|$", (ROOT / "runs/README.md").read_text(), re.M)
    table = {
        RunStatus(state): set() if targets == "–" else {RunStatus(t) for t in targets.split(", ")}
        for state, targets in rows
        if state in RunStatus.values
    }
    assert table == TRANSITIONS


def test_the_readme_has_the_two_commands_and_every_app_a_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "\npip install uv && uv run manage.py start\n" in readme
    assert "\npip install uv && uv run --group dev pytest\n" in readme
    for app in ("config", "teammates", "threads", "runs"):
        assert (ROOT / app / "README.md").read_text().count("\n") < 70


@pytest.mark.parametrize("app", ["runs", "teammates"])
def test_every_package_is_on_its_map_and_says_in_a_sentence_what_it_is(app: str) -> None:
    rows = re.findall(r"^\| (`.+`) \| .+ \|$", (ROOT / app / "README.md").read_text(), re.M)
    on_the_map = {name for row in rows for name in re.findall(r"`(\w+)/`", row)}
    packages = {init.parent for init in (ROOT / app).glob("*/__init__.py")}
    assert on_the_map == {package.name for package in packages}
    for package in packages - {ROOT / app / name for name in ("management", "migrations")}:
        assert (package / "__init__.py").read_text().startswith('"""'), package


def test_every_setting_is_in_a_readme_and_every_setting_in_a_readme_exists() -> None:
    code = "".join((ROOT / f"config/{name}.py").read_text() for name in ("settings", "data_folder"))
    text = "".join((ROOT / name).read_text() for name in ("README.md", "config/README.md"))
    name = r"(?:MUSTER|DATABASE|CSRF)_\w+|SECRET_KEY|ALLOWED_HOSTS|DEBUG"
    read = set(re.findall(rf'(?:environ\.get\(|env_\w+\(\s*|environ\[)"({name})"', code))
    assert set(re.findall(rf"`({name})`", text)) == read


def request(message: str, retries: int = 0) -> ModelRequest:
    offered = [ToolSpec(t.name, t.description, t.schema) for t in tools.REGISTRY.values()]
    return ModelRequest("demo", "", [UserMessage(message)], offered, retries=retries)


def test_every_documented_word_of_the_demo_model_does_something() -> None:
    plain = demo_script.next_stage(request("plain"))
    for word, _ in demo.WORDS:
        try:
            stage = demo_script.next_stage(request(word.replace("…", "example.com")))
        except ProviderError:
            continue
        assert stage != plain, word


def test_what_the_demo_model_calls_fits_the_tools() -> None:
    for word, _ in demo.WORDS:
        try:
            stage = demo_script.next_stage(request(word.replace("…", "example.com")))
        except ProviderError:
            continue
        for name, arguments in stage.tools:
            assert tools.REGISTRY[name].check(arguments) == ""
            assert tools.REGISTRY[name].say(arguments)


def test_no_line_of_a_template_is_too_long_to_be_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "templates").rglob("*.html")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []
