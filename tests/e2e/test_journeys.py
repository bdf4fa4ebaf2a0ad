import re
import signal

from playwright.sync_api import Browser, expect

from tests import fake_models
from tests.conftest import MakeServer, Server
from tests.e2e.conftest import OpenPage, sign_in, start_thread
from tests.e2e.pages import PAGES, RUN_TABS, TEAMMATE_TABS, of_work

SLOW = "slow 60 40ms"
ALL_WORDS = " ".join(f"word{n}" for n in range(1, 61))


def test_a_newcomer_comes_from_the_printed_link_to_a_run_with_an_approval_and_a_file(
    browser: Browser, make_server: MakeServer
) -> None:
    """Without any key; then they connect a model of their own, test it, and ask it."""
    server = make_server()
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    sign_in(page, server)
    steps = page.get_by_label("First steps").get_by_role("listitem")
    expect(steps.filter(has_text="(done)")).to_have_count(0)
    page.get_by_role("button", name="Say hello").click()
    page.get_by_role("radio", name="Short (Recommended)").check()
    page.get_by_role("button", name="Answer").click()
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Completed").wait_for()
    assert page.get_by_text("Approved by ann").is_visible()
    with page.expect_download() as download:
        page.locator("#messages").get_by_label("Download report.csv").click()
    assert download.value.suggested_filename == "report.csv"
    live = page.locator("#messages").inner_text()
    page.reload()
    assert page.locator("#messages").inner_text() == live
    page.get_by_role("link", name="Details").click()
    page.get_by_role("heading", level=1).wait_for()
    page.goto(server.url)
    expect(steps.filter(has_text="(done)")).to_have_count(4)
    with fake_models.serve() as models:
        page.get_by_role("link", name="Add a model of your own").click()
        page.get_by_role("button", name="Connect a provider").click()
        form = page.get_by_role("dialog")
        form.get_by_label("Provider").select_option(label="OpenAI-compatible server")
        form.get_by_label("Name").fill("Ours")
        form.get_by_label("Address").fill(f"{models.url}/v1")
        form.get_by_label("First model").fill("ok")
        form.get_by_role("button", name="Connect").click()
        row = page.get_by_role("row", name=re.compile("^ok "))
        row.get_by_role("button", name="Test").click()
        page.get_by_text("Answered in").wait_for()
        page.goto(server.url)
        expect(steps.filter(has_text="(done)")).to_have_count(5)
        page.get_by_role("textbox", name="Message").fill("Say something")
        page.get_by_label("Model", exact=True).select_option("ok")
        page.get_by_role("button", name="Send").click()
        page.locator(".prose", has_text="Hello wörld").wait_for()
    server.stop()


def test_a_server_that_dies_in_mid_stream_and_comes_back_goes_on_in_the_open_page(
    browser: Browser, make_server: MakeServer
) -> None:
    server = make_server(MUSTER_LEASE_SECONDS="1")
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    sign_in(page, server)
    start_thread(page, server, SLOW)
    page.get_by_text("word12 ").wait_for()
    server.stop(signal.SIGKILL)
    page.get_by_text("Live updates stopped").wait_for()
    server.start()
    page.get_by_text("Completed").wait_for()
    expect(page.locator(".prose").last).to_have_text(ALL_WORDS)
    expect(page.get_by_text("Live updates stopped")).to_be_hidden()
    live = page.locator("#messages").inner_text()
    page.reload()
    assert page.locator("#messages").inner_text() == live
    server.stop()


def test_a_reload_in_mid_run_shows_the_same_text_and_goes_on(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    start_thread(page, site, SLOW)
    page.get_by_text("word12 ").wait_for()
    before = page.locator(".live").last.inner_text()
    page.reload()
    assert page.locator(".live").last.inner_text().startswith(before)
    page.locator(".prose", has_text="word60").wait_for()
    assert page.locator(".prose").last.inner_text() == ALL_WORDS


def test_a_lost_connection_is_said_and_made_good(open_page: OpenPage, site: Server) -> None:
    page = open_page(expects_errors=True)
    start_thread(page, site, "slow 120 40ms")
    page.get_by_text("word5 ").wait_for()
    page.context.set_offline(True)
    page.get_by_text("Live updates stopped").wait_for()
    page.context.set_offline(False)
    page.locator(".prose", has_text="word120").wait_for()
    assert page.locator(".prose").last.inner_text().split() == [f"word{n}" for n in range(1, 121)]
    assert page.get_by_text("Live updates stopped").is_hidden()


def test_messages_sent_while_a_run_is_busy_wait_their_turn(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    start_thread(page, site, "slow 30 40ms")
    page.get_by_role("textbox", name="Message").fill("second, slow 3 10ms")
    page.get_by_role("textbox", name="Message").press("Enter")
    page.locator(".chip", has_text="Queued").wait_for()
    page.locator(".prose", has_text="word30").wait_for()
    page.locator(".prose", has_text="word1 word2 word3").last.wait_for()
    page.locator(".chip", has_text="Completed").nth(1).wait_for()


def test_stop_ends_a_run_and_says_so(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    start_thread(page, site, "slow 1000 40ms")
    page.get_by_text("word5 ").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator(".chip", has_text="Cancelled").wait_for()
    assert page.get_by_role("button", name="Stop").count() == 0


def test_escape_twice_stops_the_run_wherever_the_focus_is(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page()
    start_thread(page, site, "slow 1000 40ms")
    page.get_by_text("word5 ").wait_for()
    page.get_by_role("textbox", name="Message").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator(".chip", has_text="Cancelled").wait_for()


def test_what_is_said_in_one_tab_appears_in_the_other(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    start_thread(page, site, "slow 2 10ms")
    page.get_by_text("Completed").wait_for()
    other = page.context.new_page()
    other.goto(page.url)
    page.get_by_role("textbox", name="Message").fill("slow 5 40ms please")
    page.get_by_role("textbox", name="Message").press("Enter")
    other.locator(".said", has_text="slow 5 40ms please").wait_for(timeout=60_000)
    other.locator(".prose", has_text="word5").wait_for(timeout=60_000)
    for tab in (page, other):
        expect(tab.locator("#messages > .run")).to_have_count(2)


def test_words_typed_into_a_waiting_message_that_begins_meanwhile_are_kept(
    open_page: OpenPage, site: Server
) -> None:
    page = open_page(expects_errors=True)
    start_thread(page, site, "slow 1000 20ms")
    page.get_by_role("textbox", name="Message").fill("slow 1000 21ms")
    page.get_by_role("textbox", name="Message").press("Enter")
    page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Message").fill("Something else entirely")
    page.evaluate("document.querySelector('[data-stop]').click()")
    page.locator("#messages > .run").nth(1).locator(".chip", has_text="Running").wait_for()
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_text("being worked on already").wait_for()
    expect(dialog.get_by_role("textbox", name="Message")).to_have_value("Something else entirely")


def test_a_live_card_tells_the_time_of_the_organization(open_page: OpenPage, site: Server) -> None:
    page = open_page()

    def choose(zone: str) -> None:
        page.goto(f"{site.url}/settings/")
        page.get_by_label("Timezone").select_option(zone)
        with page.expect_navigation():
            page.get_by_role("button", name="Save").click()

    choose("Asia/Tokyo")
    try:
        start_thread(page, site, "ask me")
        page.get_by_text("(Tokyo)").wait_for()
    finally:
        choose("UTC")


def test_a_menu_in_a_table_lies_over_it(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    page.goto(f"{site.url}/settings/models/")
    page.locator('summary[aria-label="More about demo"]').last.click()
    page.get_by_role("button", name="Limits and fallback").first.click(timeout=10_000)
    page.get_by_role("dialog").get_by_label("When it cannot answer").wait_for()


def test_everything_works_without_javascript(open_page: OpenPage, site: Server) -> None:
    page = open_page(java_script_enabled=False)
    start_thread(page, site, "approve file")
    for _ in range(200):
        if page.get_by_role("button", name="Approve").count():
            break
        page.reload()
    page.get_by_role("button", name="Approve").click()
    for _ in range(200):
        if page.get_by_text("Completed").count():
            break
        page.reload()
    assert page.locator("#messages").get_by_label("Download report.csv").is_visible()
    page.get_by_role("link", name="Details").click()
    assert page.locator("dd", has_text="$0.00").is_visible()


def test_every_page_answers_in_both_themes_without_sideways_scroll(
    open_page: OpenPage, site: Server
) -> None:
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme, viewport={"width": 320, "height": 700})
        start_thread(page, site, "think file " + "long" * 60)
        page.get_by_text("Completed").wait_for()
        run = page.get_by_role("link", name="Details").get_attribute("href")
        paths = [
            *PAGES,
            *of_work(site),
            *(f"{run}?tab={tab}" for tab in RUN_TABS),
            *(f"/teammates/1/?tab={tab}" for tab in TEAMMATE_TABS),
        ]
        for path in paths:
            answer = page.goto(site.url + path)
            assert answer is not None
            assert answer.status == 200, path
            assert page.locator("h1").count() == 1, path
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path


def test_scripts_in_answers_and_names_never_run(open_page: OpenPage, site: Server) -> None:
    page = open_page()
    nasty = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) <script>alert(1)</script>"
    start_thread(page, site, nasty)
    page.get_by_text("Completed").wait_for()
    assert page.locator("#messages img, #messages script").count() == 0
    assert page.locator('#messages a[href^="javascript"]').count() == 0
    assert "<img src=x" in page.locator(".said").inner_text()
