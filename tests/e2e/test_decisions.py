"""Deciding in a real browser: cards, edits, plans, the review page, races, live counts."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from tests.conftest import Server, wait_for
from tests.e2e.conftest import OpenPage, start_thread


def api_run(site: Server, message: str, **fields: Any) -> int:
    """A run of the installation's own key: nobody in particular started it."""
    with site.client() as client:
        body = {"message": message, "stream": False, "human_in_the_loop": True, **fields}
        made = client.post("/api/v2/runs", json=body)
        assert made.status_code == 201, made.text
        return int(made.json()["id"])


def status(site: Server, run_id: int) -> str:
    with site.client() as client:
        return str(client.get(f"/api/v2/runs/{run_id}").json()["status"])


def waits(site: Server, run_id: int) -> None:
    wait_for(lambda: status(site, run_id) == "awaiting_approval")


def edit(page: Page, label: str, text: str) -> None:
    page.get_by_text("Edit before approving").click()
    page.get_by_label(label, exact=True).fill(text)
    assert page.locator(".was del").first.is_visible()  # the change is shown before it is sent
    page.get_by_role("button", name="Approve with edits").click()


def test_an_approval_with_edits_a_question_and_a_plan_in_the_thread(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    page.goto(f"{site.url}/threads/new/")
    page.get_by_label("Mode", exact=True).select_option("plan")
    page.get_by_role("textbox", name="Message").fill("ask me, then file notes.txt")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Demo proposes a plan").wait_for()
    page.get_by_role("button", name="Ask for changes").click()
    page.get_by_text("Say what should change.").wait_for()
    page.get_by_label("What should change").fill("one step less")
    page.get_by_role("button", name="Ask for changes").click()
    page.get_by_text("Changed: one step less", exact=True).wait_for()
    page.get_by_role("button", name="Approve the plan").click()
    page.get_by_role("radio", name="Long").check()
    page.get_by_role("button", name="Answer").click()
    page.get_by_text("Demo wants to write notes.txt").wait_for()
    edit(page, "Name", "better.txt")
    page.get_by_text("Completed").wait_for()
    card = page.locator("#messages").get_by_role("link", name="better.txt", exact=True)
    assert card.is_visible()
    live = page.locator("#messages").inner_text()
    assert re.search(r"Name\s+notes.txt → better.txt", live)
    page.reload()
    assert page.locator("#messages").inner_text() == live


@pytest.mark.sdk
def test_the_page_decides_while_the_sdk_waits_in_another_process(
    open_page: OpenPage, site: Server
) -> None:
    pytest.importorskip("m8tes", reason="the m8tes SDK needs Python 3.11.9 or newer")
    page = open_page()
    run_id = api_run(site, "ask me, then file notes.txt", permission_mode="plan")
    program = Path(__file__).with_name("sdk_waits.py")
    sdk = subprocess.Popen(
        [sys.executable, str(program), site.key, f"{site.url}/api/v2", str(run_id)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        waits(site, run_id)
        page.goto(f"{site.url}/runs/{run_id}/?tab=approvals")
        page.get_by_role("button", name="Approve the plan").click()
        page.get_by_text("Answered.").wait_for()
        waits(site, run_id)
        page.goto(f"{site.url}/needs-you/")
        page.locator("[data-row]", has_text="How long").first.locator("a").click()
        page.get_by_role("radio", name="Long").check()
        with page.expect_navigation():  # the page goes on to the next by itself
            page.get_by_role("button", name="Answer").click()
        waits(site, run_id)
        page.goto(f"{site.url}/runs/{run_id}/?tab=approvals")
        edit(page, "Name", "mine.txt")
        page.get_by_role("status").filter(has_text="Approved.").wait_for()
        said, _ = sdk.communicate(timeout=120)
    finally:
        sdk.kill()
        sdk.communicate()
    assert said.split() == ["completed", "AskUserQuestion", "write_file"]
    with site.client() as client:
        listed = client.get(f"/api/v2/runs/{run_id}/files").json()
    assert [file["name"] for file in listed] == ["mine.txt"]


def test_whoever_leaves_after_deciding_is_not_taken_back_to_the_next_decision(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    waits(site, api_run(site, "approve it"))
    page.goto(f"{site.url}/needs-you/")

    def late(route: Route) -> None:
        time.sleep(2)  # longer than the page waits before it goes on by itself
        route.continue_()

    page.route("**/runs/", late)
    page.keyboard.press("a")
    page.locator("#pane [role=status]", has_text="Approved").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/runs/")


@pytest.mark.parametrize("place", ["run", "thread"])
def test_of_two_browsers_one_decides_and_the_other_learns_who_did(
    open_page: OpenPage, site: Server, place: str
) -> None:
    first, second = open_page(), open_page()
    run_id = api_run(site, "approve it")
    waits(site, run_id)
    address = f"{site.url}/runs/{run_id}/?tab=approvals"
    first.goto(address)
    second.goto(address)
    if place == "thread":
        second.get_by_role("link", name="Open thread").click()
    second.get_by_role("button", name="Deny").wait_for()

    def late(route: Route) -> None:
        first.get_by_role("button", name="Approve", exact=True).click()
        first.get_by_text("Approved. The run goes on.").wait_for()
        # The second page has drawn the decision instead of its form, the run is over.
        wait_for(lambda: status(site, run_id) == "completed")
        time.sleep(2)
        route.continue_()

    second.route("**/answer/", late)
    second.get_by_role("button", name="Deny").click()
    second.get_by_text(re.compile(r"ann approved this .* ago")).wait_for()


def test_the_count_and_a_toast_appear_without_a_reload(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    page.goto(f"{site.url}/teammates/")
    page.locator("[data-needs-you]").first.wait_for(state="attached")
    page.wait_for_timeout(500)
    before = page.locator(".side [data-needs-you]").inner_text()
    run_id = api_run(site, "approve it")
    page.locator(".toast", has_text="Demo needs you").wait_for()
    shown = int(page.locator(".side [data-needs-you]").inner_text())
    assert shown == int(before or 0) + 1
    assert page.title().startswith(f"({shown})")
    with site.client() as client:
        client.post(f"/api/v2/runs/{run_id}/cancel")
    wait_for(lambda: page.locator(".side [data-needs-you]").inner_text() == before)


def test_the_review_page_is_worked_with_the_keyboard(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    runs = [api_run(site, "approve it") for _ in range(2)]
    for run_id in runs:
        waits(site, run_id)
    page.keyboard.press("g")
    page.keyboard.press("n")
    page.wait_for_url("**/needs-you/")
    rows = page.locator("[data-row]")
    assert rows.count() >= 2
    first = rows.nth(0).inner_text()
    page.keyboard.press("j")
    page.locator("[data-row][aria-current]").nth(0).wait_for()
    page.wait_for_url("**gate=**")
    assert page.locator("[data-row]").nth(0).get_attribute("aria-current") is None
    page.keyboard.press("k")
    page.locator("[data-row]:first-child[aria-current]").wait_for()
    assert page.locator("[data-row]").nth(0).inner_text() == first
    page.keyboard.press("s")
    assert page.locator("details.edits[open]").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.get_by_text("Approved. The run goes on.").wait_for()
    for run_id in runs:
        with site.client() as client:
            client.post(f"/api/v2/runs/{run_id}/cancel")


def test_a_decision_without_javascript(open_page: OpenPage, site: Server) -> None:
    page = open_page(java_script_enabled=False)
    run_id = api_run(site, "approve it, file notes.txt")
    waits(site, run_id)
    page.goto(f"{site.url}/needs-you/")
    page.locator("[data-row]", has_text="Pretend").first.locator("a").click()
    page.get_by_text("Edit before approving").click()
    page.get_by_label("Text", exact=True).fill("Mine.")
    page.get_by_role("button", name="Approve", exact=True).click()
    assert page.get_by_text("Approved. The run goes on.").is_visible()
    wait_for(lambda: status(site, run_id) == "completed")
    page.goto(f"{site.url}/runs/{run_id}/?tab=approvals")
    assert page.locator("ins", has_text="Mine.").is_visible()


def test_a_standing_permission_is_given_shown_with_what_it_let_through_and_revoked(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    start_thread(page, site, "approve it")
    page.get_by_label("Always allow “Pretend to send").check()
    page.get_by_label("Only with").select_option("to")
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_text("Completed").wait_for()
    start_thread(page, site, "approve it")
    page.get_by_text("Completed").wait_for()
    page.goto(f"{site.url}/settings/permissions/")
    row = page.get_by_role("row", name="Pretend to send")
    assert "to = kim@example.com" in row.inner_text()
    assert row.locator("td.number").inner_text() == "1"
    row.get_by_role("button", name="Revoke").click()
    assert page.get_by_text("asks again").is_visible()
    assert page.get_by_role("row", name="Pretend to send").count() == 0


def test_a_server_is_connected_tested_and_given_to_a_teammate(
    open_page: OpenPage, site: Server
) -> None:
    from tests.fake_servers import program

    page = open_page()
    page.goto(f"{site.url}/settings/apps/")
    page.get_by_text("Connect a server").click()
    page.get_by_label("Name", exact=True).fill("Weather")
    page.get_by_label("Kind").select_option("mcp_stdio")
    page.get_by_label("Program", exact=True).fill(" ".join(program("ok")))
    page.get_by_role("button", name="Connect and test").click()
    page.get_by_text("Asking Weather what it offers").wait_for()
    page.get_by_role("link", name="Weather: make rain", exact=True).wait_for()
    page.get_by_role("button", name="Trust: ask only where the mode does").click()
    page.get_by_role("link", name="Weather: make rain", exact=True).click()
    page.get_by_label("Off: no teammate has it").check()
    page.get_by_role("button", name="Save").click()
    page.goto(f"{site.url}/teammates/new/")
    page.get_by_label("Name", exact=True).fill("Weather watcher")
    page.get_by_label("Weather", exact=True).check()
    page.get_by_label("Memory:").uncheck()
    page.get_by_role("button", name="Create teammate").click()
    page.get_by_role("link", name="Start a thread").first.click()
    page.get_by_role("textbox", name="Message").fill('use weather__forecast {"city": "Bern"}')
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Completed").wait_for()
    assert "Sunny in Bern" in page.locator("#messages").inner_text()


def test_memories_skills_and_reports_have_their_pages(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    page.goto(f"{site.url}/settings/memories/")
    page.get_by_label("Something to remember").fill("Tea at four.")
    page.get_by_role("button", name="Remember").click()
    page.get_by_role("row", name="Tea at four.").get_by_role("button", name="Forget").click()
    page.get_by_role("button", name="Undo").click()
    assert page.get_by_role("row", name="Tea at four.").is_visible()
    page.goto(f"{site.url}/settings/skills/new/")
    page.get_by_label("Name").fill("Tea")
    page.get_by_label("When to use it").fill("At four.")
    page.get_by_label("Instructions").fill("Boil water.")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_role("link", name="Tea", exact=True).is_visible()
    start_thread(page, site, "complain about the tea")
    page.get_by_text("Completed").wait_for()
    page.get_by_role("link", name="Details").click()
    page.get_by_role("link", name="Context").click()
    assert page.get_by_text("Tea at four. (among the newest)").is_visible()
    page.goto(f"{site.url}/settings/reports/")
    page.get_by_role("button", name="Close").first.click()
    assert page.get_by_text("No open reports").is_visible()


def test_a_stopped_run_leaves_no_card_to_decide(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    start_thread(page, site, "approve it")
    page.get_by_role("button", name="Approve", exact=True).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("No longer needed: the run ended").wait_for()
    assert page.get_by_role("button", name="Approve", exact=True).count() == 0
    live = page.locator("#messages").inner_text()
    page.reload()
    assert page.locator("#messages").inner_text() == live


def test_a_decision_that_cannot_be_sent_says_so_in_the_card(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page(expects_errors=True)
    start_thread(page, site, "approve it")
    page.get_by_role("button", name="Approve", exact=True).wait_for()
    page.route("**/answer/", lambda route: route.abort())
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_text("Not sent: the server cannot be reached.").wait_for()
    page.unroute("**/answer/")
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_text("Completed").wait_for()
