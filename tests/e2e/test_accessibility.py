"""axe on every page, as every role, in both themes; and the product worked by keyboard alone."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page

from tests.conftest import Server
from tests.e2e.conftest import PASSWORD, OpenPage, start_thread
from tests.e2e.pages import ADMIN_PAGES, PAGES, RUN_TABS, TEAMMATE_TABS, of_work

SERIOUS = ("serious", "critical")
ALL_RULES = {"resultTypes": ["violations"]}
CONTRAST = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}


def problems(page: Page, options: dict[str, object]) -> list[str]:
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in SERIOUS
    ]


def check(page: Page, site: Server, paths: list[str]) -> None:
    for path in paths:
        page.emulate_media(color_scheme="light")
        answer = page.goto(site.url + path)
        assert answer is not None
        assert answer.status == 200, path
        assert problems(page, ALL_RULES) == [], path
        page.emulate_media(color_scheme="dark")
        assert problems(page, CONTRAST) == [], path


@pytest.mark.timeout(400)
def test_axe_finds_nothing_serious_on_any_page_of_an_owner(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    start_thread(page, site, "hello, show me everything")
    page.get_by_role("radio", name="Short (Recommended)").check()
    page.get_by_role("button", name="Answer").click()
    page.get_by_role("button", name="Approve").wait_for()
    thread = page.url.removeprefix(site.url)
    assert problems(page, ALL_RULES) == []
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Completed").wait_for()
    run = page.get_by_role("link", name="Details").get_attribute("href")
    card = page.locator("#messages").get_by_role("link", name="report.csv", exact=True)
    file = card.get_attribute("href")
    check(
        page,
        site,
        [
            thread,
            str(file),
            *PAGES,
            *of_work(site),
            *(f"{run}?tab={tab}" for tab in RUN_TABS),
            *(f"/teammates/1/?tab={tab}" for tab in TEAMMATE_TABS),
        ],
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["member", "viewer"])
def test_axe_finds_nothing_serious_on_any_page_of_others(
    open_page: OpenPage, site: Server, role: str
) -> None:
    page = joined(open_page, site, role)
    open_to_all = [path for path in PAGES if path not in ADMIN_PAGES]
    check(page, site, [*open_to_all, *(f"/teammates/1/?tab={tab}" for tab in TEAMMATE_TABS)])
    for path in ADMIN_PAGES:
        answer = page.goto(site.url + path)
        assert answer is not None
        assert answer.status == 403, path


def joined(open_page: OpenPage, site: Server, role: str) -> Page:
    """A page of somebody new, who was invited."""
    owner = open_page()
    owner.goto(f"{site.url}/settings/members/")
    owner.get_by_role("button", name="Invite").first.click()
    owner.get_by_label("E-mail address").fill(f"{role}@example.com")
    owner.get_by_role("dialog").get_by_label("Role").select_option(role)
    owner.get_by_role("dialog").get_by_role("button", name="Invite").click()
    link = owner.get_by_text("/join/").first.inner_text()
    context: BrowserContext = owner.context.browser.new_context()  # type: ignore[union-attr]
    page = context.new_page()
    page.goto(link)
    page.get_by_label("Your name").fill(role.title())
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    page.wait_for_url(f"{site.url}/")
    return page


def test_the_product_is_worked_with_the_keyboard_alone(open_page: OpenPage, site: Server) -> None:
    """From home: a thread, a run, an approval with an edit, the usage and its export."""
    page = open_page()
    page.keyboard.press("c")
    page.wait_for_url("**/threads/new/")
    page.locator("textarea:focus").wait_for()  # drawn a moment after the page has loaded
    page.keyboard.type("approve it")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/threads/\d+/$"))
    page.get_by_role("button", name="Approve").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("n")
    page.wait_for_url("**/needs-you/")
    page.keyboard.press("s")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("bo@example.com")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.get_by_text("Nothing needs you").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/runs/")
    page.keyboard.press("j")
    page.keyboard.press(" ")
    page.locator("#peek").get_by_text("Open run").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
    page.get_by_text("Completed").first.wait_for()
    page.keyboard.press("g")
    page.keyboard.press("u")
    page.wait_for_url("**/usage/")
    with page.expect_download() as download:
        page.keyboard.press("e")
    assert download.value.suggested_filename.startswith("usage-")
    page.keyboard.press("ControlOrMeta+k")
    page.keyboard.type("appear")
    page.keyboard.press("Escape")
    page.locator("#palette").wait_for(state="hidden")
    page.keyboard.press("?")
    page.locator("#keys").wait_for()
