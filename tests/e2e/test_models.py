"""From a model server that was just found to a teammate that reads, looks, computes and draws."""

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import Server
from tests.e2e.conftest import OpenPage
from tests.fake_models import FakeModels, chat, message
from tests.pictures import picture
from tests.teammates.test_file_text import pdf
from tests.teammates.test_ollama import NAME, Ollama

CODE = """
import charts
print("Jan 23, Feb 42, in all", 23 + 42)
charts.bar(["Jan", "Feb"], [23, 42])
"""
PATIENCE = 60_000  # ms: the first one who asks waits for a vendor's package to be loaded
TABLE = "The lamp is sold out.\n\n| Month | Sold |\n|---|---|\n| Jan | 23 |\n| Feb | 42 |"


def open_dialog(page: Page, site: Server, models: FakeModels, kind: str, name: str) -> Locator:
    """The one that connects a provider, with what it is and where."""
    page.goto(f"{site.url}/settings/models/")
    page.get_by_role("button", name="Connect a provider").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Provider").select_option(kind)
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_label("Address").fill(f"{models.url}/v1")
    return dialog


def connect(page: Page, site: Server, models: FakeModels) -> None:
    """Choose a model from the server's own list, price it, and make it the default."""
    dialog = open_dialog(page, site, models, "openai_compatible", "Ours")
    dialog.get_by_label("First model").focus()
    expect(dialog.get_by_text("OpenAI-compatible server offers 2")).to_be_visible(timeout=PATIENCE)
    looker = dialog.get_by_role("option", name="looker")
    expect(looker).to_have_text(
        re.compile(r"32,768 tokens\s+·\s+takes text, pictures"), timeout=PATIENCE
    )
    choose_by_keyboard(page, dialog)
    dialog.get_by_role("button", name="Connect").click()
    card = page.locator("section.card").filter(has_text="Ours")
    expect(card.get_by_text("Answered in")).to_be_visible(timeout=PATIENCE)
    card.get_by_label("More about looker").click()
    card.get_by_role("button", name="Set price").click()
    price = page.get_by_role("dialog", name="Price of looker")
    for lane, dollars in (("Uncached input", "3"), ("Cache read", "0.3"), ("Output", "15")):
        price.get_by_label(lane).fill(dollars)
    price.get_by_role("button", name="Set price").click()
    card.get_by_label("More about looker").click()
    card.get_by_role("button", name="Make default").click()
    expect(card.get_by_text("Default")).to_be_visible(timeout=PATIENCE)


def choose_by_keyboard(page: Page, dialog: Locator) -> None:
    """What is typed narrows the list, by what models take, too."""
    field, options = (
        dialog.get_by_label("First model"),
        dialog.locator("[data-fills] [role=option]:visible"),
    )
    expect(options).to_have_count(2)
    field.fill("tiny")
    expect(options).to_have_count(0)
    expect(dialog.get_by_text("None of these.")).to_be_visible()
    field.fill("pictures")
    expect(options).to_have_count(1)
    expect(dialog.get_by_text("1 of 2")).to_be_visible()
    page.keyboard.press("Enter")  # chooses, and does not send the words that were searched
    expect(field).to_have_value("looker")
    expect(options.first).to_have_attribute("aria-selected", "true")
    for key in ("ArrowDown", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-activedescendant", "id_model-choices-0")


LISTED = {
    "data": [
        {"id": "looker", "max_model_len": 32768, "input_modalities": ["text", "image"]},
        {"id": "small"},
    ]
}


def ask(page: Page, site: Server) -> None:
    """Send a picture and a PDF with a question, and look at the table and the chart that come."""
    page.goto(f"{site.url}/threads/new/")
    page.locator("input[type=file]").set_input_files(
        [
            {"name": "lamp.png", "mimeType": "image/png", "buffer": picture()},
            {"name": "stock.pdf", "mimeType": "application/pdf", "buffer": pdf("No lamps left")},
        ]
    )
    page.get_by_role("textbox", name="Message").fill("What is left, and what was sold?")
    page.get_by_role("button", name="Send").click()
    page.wait_for_url(re.compile(r"/threads/\d+/$"))
    thread = page.locator("#messages")
    expect(thread.get_by_role("cell", name="Feb")).to_be_visible(timeout=PATIENCE)
    expect(thread.locator("img[src^='/files/'][alt*='chart']")).to_be_visible(timeout=PATIENCE)
    expect(thread.get_by_text("in all 65")).to_have_count(1, timeout=PATIENCE)


def look_at_the_cost(page: Page, dollars: str) -> None:
    thread = page.locator("#messages")
    expect(thread.locator("footer").get_by_text(dollars)).to_be_visible(timeout=PATIENCE)
    thread.get_by_role("link", name="Details").click()
    page.get_by_text("Tokens and cost").click()
    for lane in ("In", "In, from the cache", "In, into the cache", "Out"):
        expect(page.get_by_role("cell", name=lane, exact=True)).to_be_visible(timeout=PATIENCE)


def computes_then_says() -> list[Any]:
    """What a model of OpenAI's dialect answers."""
    call = {"name": "run_python", "arguments": json.dumps({"code": CODE})}
    calls = [{"index": 0, "id": "c1", "type": "function", "function": call}]
    return [chat({"tool_calls": calls}, finish="tool_calls"), chat({"content": TABLE})]


def test_a_newcomer_with_a_model_server_has_a_table_computed_and_its_chart_drawn(
    open_page: OpenPage, site: Server, models: FakeModels
) -> None:
    models.listed = 200, LISTED
    page = open_page()
    connect(page, site, models)
    models.requests.clear()
    models.answers = computes_then_says()
    ask(page, site)
    first, second = (json.dumps(request["body"]) for request in models.requests[:2])
    assert "data:image/png" in first
    assert "No lamps left" in first
    assert "in all 65" in second
    look_at_the_cost(page, "$0.0")


def test_a_newcomer_with_only_a_key_has_it_too(
    open_page: OpenPage, site: Server, models: FakeModels
) -> None:
    can = {f"{kind}_input": {"supported": True} for kind in ("image", "pdf")}
    listed = {"id": "claude-sonnet-4-5", "max_input_tokens": 200_000, "capabilities": can}
    models.listed = 200, {"data": [listed, {"id": "claude-new"}]}
    with psycopg.connect(site.database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE teammates_provider SET base_url = %s WHERE kind = 'anthropic'", [models.url]
        )
    page = open_page()
    page.goto(f"{site.url}/settings/models/")
    page.get_by_label("API key of Anthropic").fill("sk-ant-1")
    card = page.locator("section.card").filter(has_text="Anthropic")
    card.get_by_role("button", name="Save key").click()
    card.get_by_label("More about Anthropic").click()
    card.get_by_role("button", name="Add a model").click()
    dialog = page.get_by_role("dialog", name="Another model of Anthropic")
    offered = dialog.locator("[role=option]").filter(has_text="claude-sonnet-4-5")
    expect(offered).to_contain_text("takes text, pictures, PDFs", timeout=PATIENCE)
    expect(offered).to_contain_text("$3.00 in, $15.00 out")
    offered.click()
    dialog.get_by_role("button", name="Add model").click()
    models.answers = [message(({"type": "text", "text": "OK"}, []))]
    row = card.get_by_role("row").filter(has_text="claude-sonnet-4-5")
    row.get_by_role("button", name="Test").click()
    expect(card.get_by_text("Answered in")).to_be_visible(timeout=PATIENCE)
    card.get_by_label("More about claude-sonnet-4-5").click()
    card.get_by_role("button", name="Make default").click()
    call = {"type": "tool_use", "id": "c1", "name": "run_python", "input": {}}
    arguments = {"type": "input_json_delta", "partial_json": json.dumps({"code": CODE})}
    said = {"type": "text_delta", "text": TABLE}
    models.requests.clear()
    models.answers = [
        message((call, [arguments]), stop="tool_use"),
        message(({"type": "text", "text": ""}, [said])),
    ]
    ask(page, site)
    first, second = (json.dumps(request["body"]) for request in models.requests[:2])
    assert '"type": "image"' in first
    assert '"type": "document"' in first  # the PDF as it is
    assert "in all 65" in second
    look_at_the_cost(page, "$0.00061")  # 2 * (50 * 3 + 40 * 0.3 + 10 * 3.75 + 7 * 15) / 1 000 000


def test_a_newcomer_with_only_ollama_has_it_too(
    open_page: OpenPage, site: Server, models: FakeModels
) -> None:
    ollama = Ollama(models)
    page = open_page()
    dialog = open_dialog(page, site, models, "ollama", "This machine")
    dialog.get_by_label("First model").fill(NAME)
    dialog.get_by_role("button", name="Connect").click()
    card = page.locator("section.card").filter(has_text="This machine")
    expect(card.get_by_text("Answered in")).to_be_visible(timeout=PATIENCE)
    assert ollama.pulled == 1
    card.get_by_label(f"More about {NAME}").click()
    card.get_by_role("button", name="Make default").click()
    models.answer = None
    models.answers = computes_then_says()
    models.requests.clear()
    ask(page, site)
    asked = [request["body"] for request in models.requests if "body" in request]
    assert "data:image/png" in json.dumps(asked[0])
    assert "No lamps left" in json.dumps(asked[0])
    look_at_the_cost(page, "cost unknown")  # nobody said what it costs


@pytest.mark.sdk
def test_what_the_sdk_replies_with_is_shown_to_the_model(
    open_page: OpenPage, site: Server, models: FakeModels, tmp_path: Path
) -> None:
    m8tes = pytest.importorskip("m8tes", reason="the m8tes SDK needs Python 3.11.9 or newer")
    models.listed = 200, LISTED
    connect(open_page(), site, models)
    lamp, stock = tmp_path / "lamp.png", tmp_path / "stock.pdf"
    lamp.write_bytes(picture())
    stock.write_bytes(pdf("No lamps left"))
    models.requests.clear()
    models.answer = lambda body: chat({"content": "It is a lamp."})
    with m8tes.M8tes(api_key=site.key, base_url=f"{site.url}/api/v2") as client:
        first = client.runs.create_and_wait(message="Hello", poll_interval=0.05)
        assert "data:image/png" not in json.dumps(models.requests[-1]["body"])
        reply = client.runs.reply(first.id, message="What is it?", files=[str(lamp), str(stock)])
        assert "".join(reply.iter_text()) == "It is a lamp."
        names = [file.name for file in client.runs.list_files(reply.run_id)]
    assert sorted(names) == ["lamp.png", "stock.pdf"]
    asked = json.dumps(models.requests[-1]["body"]["messages"][-1])
    assert "data:image/png" in asked
    assert "No lamps left" in asked  # a server of one's own reads PDFs as text
