"""What works by itself, as a person sets it up: a task with a preview, a webhook, a delivery."""

import re

import httpx2
from playwright.sync_api import expect

from tests.conftest import Server
from tests.e2e.conftest import OpenPage


def test_a_task_is_made_while_its_next_times_are_shown_and_its_first_call_appears(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    page.goto(f"{site.url}/tasks/")
    page.get_by_role("link", name="New task").first.click()
    page.get_by_label("What is to be done").fill("Say hello")
    times = page.get_by_role("heading", name="When", exact=True)
    expect(times).to_be_hidden()
    page.get_by_label("It starts by itself, at a time").check()
    page.get_by_label("It runs").select_option("week")
    page.get_by_label("On", exact=True).select_option("Sunday")
    page.get_by_role("textbox", name="At", exact=True).fill("02:30")
    page.get_by_label("Timezone").select_option("Europe/Berlin")
    expect(times).to_be_visible()
    expect(page.get_by_text("Every Sunday at 02:30 (Berlin)")).to_be_visible()
    expect(page.locator("#times tbody td:first-child").filter(has_text="Sun ")).to_have_count(10)
    page.get_by_label("It runs").select_option("interval")
    page.get_by_label("Minutes between").fill("0.2")  # wrong, and of no concern once it is hidden
    page.get_by_label("It runs").select_option("cron")
    page.get_by_label("Cron").fill("30 9 * *")
    expect(page.get_by_text("is not a schedule")).to_be_visible()
    page.get_by_label("Cron").fill("*/10 8-17 * * 1-5")
    in_words = "Every 10th minute from 08:00 through 17:59 on Monday through Friday (Berlin)"
    expect(page.get_by_text(in_words)).to_be_visible()
    page.get_by_role("button", name="Make the task").click()
    page.get_by_role("link", name="Triggers").first.click()
    expect(page.get_by_text(in_words)).to_be_visible()

    page.get_by_role("button", name="Make a webhook").click()
    live = page.locator("pre").first.inner_text()
    assert re.fullmatch(r"http://\S+/api/v1/webhooks/tasks/\d+/whk_[0-9a-f]{48}", live)
    expect(page).to_have_url(re.compile(r"/tasks/\d+/\?tab=triggers$"))
    page.reload()  # the address is not shown again, and no other one is made
    expect(page.get_by_text("whk_")).to_contain_text("****")
    expect(page.get_by_text("Waiting for the first one")).to_be_visible()
    assert httpx2.post(live, json={"order": 4411}, trust_env=False).status_code == 202
    expect(page.locator("#calls").get_by_text("Completed")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Waiting for the first one")).to_be_hidden()


def test_a_delivery_is_looked_at_beside_the_list(open_page: OpenPage, site: Server) -> None:
    with site.client() as client:
        hook = (
            client.post(
                "/api/v2/webhooks",
                json={
                    "url": "https://receiver.invalid/x",
                    "events": ["run.started"],
                },
            )
            .raise_for_status()
            .json()
        )
        client.post("/api/v2/runs", json={"message": "x", "stream": False}).raise_for_status()
    page = open_page()
    page.goto(f"{site.url}/webhooks/{hook['id']}/")
    page.get_by_role("cell", name="run.started").first.wait_for()
    page.keyboard.press("j")
    page.keyboard.press(" ")
    peek = page.locator("#peek")
    expect(peek.get_by_text("Webhook-Id:")).to_be_visible(timeout=60_000)
    page.keyboard.press(" ")
    expect(peek).to_be_empty()
    page.get_by_role("cell", name="run.started").first.click()  # the mouse opens it too
    expect(peek.get_by_text("Webhook-Signature: v1=")).to_be_visible(timeout=60_000)
    peek.get_by_text("Verify", exact=True).click()
    peek.get_by_label("Secret").fill(hook["secret"])
    peek.get_by_role("button", name="Check").click()
    expect(page.get_by_text("Right: this secret signed it")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Send a test").click()
    page.wait_for_url(re.compile(r"/deliveries/\d+/$"))
    expect(page.get_by_text("could not be found").first).to_be_visible(timeout=60_000)


def test_run_now_from_the_list(open_page: OpenPage, site: Server) -> None:
    with site.client() as client:
        client.post(
            "/api/v2/tasks",
            json={
                "teammate_id": 1,
                "name": "Greet",
                "instructions": "Say something friendly.",
            },
        ).raise_for_status()
    page = open_page()
    page.goto(f"{site.url}/tasks/?q=Greet")
    page.get_by_label("More about Greet").click()
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile(r"/threads/\d+/$"))
    expect(page.get_by_text("Completed")).to_be_visible(timeout=60_000)
