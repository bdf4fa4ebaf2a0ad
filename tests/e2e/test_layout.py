"""What pages look like with nothing, with very much, with long and with right-to-left names."""

from collections.abc import Iterator

import httpx2
import psycopg
import pytest
from playwright.sync_api import Browser, Page

from runs.bench.filling import fill
from tests.conftest import MakeServer, Server, wait_for
from tests.e2e.conftest import OpenPage, sign_in, start_thread
from tests.e2e.pages import PAGES

PHONE = {"viewport": {"width": 320, "height": 640}}
ZOOMED = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}  # 1280 at 200 %
WEIGHT = 150_000  # bytes, as sent
LONG = "Donaudampfschifffahrtsgesellschaft" * 6
ARABIC = "تلخيص الفواتير المفتوحة وإرسالها إلى سارة"
WEIGHED = """performance.getEntries().filter(one => one.encodedBodySize !== undefined)
    .reduce((sum, one) => sum + one.encodedBodySize, 0)"""


def walk(page: Page, site: Server, paths: list[str]) -> None:
    width = page.evaluate("innerWidth")
    for path in paths:
        answer = page.goto(site.url + path)
        assert answer is not None
        assert answer.status == 200, path
        assert page.locator("h1").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize("screen", [PHONE, ZOOMED], ids=["phone", "zoomed"])
def test_pages_of_an_installation_where_nothing_happened_yet(
    open_page: OpenPage, site: Server, screen: dict[str, object]
) -> None:
    page = open_page(**screen)
    walk(page, site, PAGES)
    page.goto(f"{site.url}/runs/")
    assert (
        page.get_by_role("link", name="Start a thread")
        .or_(page.get_by_text("No runs yet"))
        .first.is_visible()
    )


@pytest.mark.parametrize("screen", [PHONE, ZOOMED], ids=["phone", "zoomed"])
def test_long_names_and_words_from_right_to_left_fit(
    open_page: OpenPage, site: Server, screen: dict[str, object]
) -> None:
    with site.client() as client:
        for name in (LONG[:200], ARABIC):
            made = client.post("/api/v2/teammates", json={"name": name, "instructions": name})
            assert made.status_code == 201, made.text
            mate = made.json()["id"]
    page = open_page(**screen)
    start_thread(page, site, f"think file {LONG}.csv")
    page.get_by_text("Completed").wait_for()
    long_thread = page.url.removeprefix(site.url)
    start_thread(page, site, f"{ARABIC} file")
    page.get_by_text("Completed").wait_for()
    said = page.locator(".said").first
    assert said.inner_text().startswith(ARABIC)
    assert starts_at_its_right(page, ".said")
    run = page.get_by_role("link", name="Details").get_attribute("href")
    assert run
    walk(
        page,
        site,
        [
            "/",
            long_thread,
            run,
            f"/teammates/{mate}/",
            f"/teammates/{mate - 1}/",
            "/teammates/",
            "/threads/",
            "/threads/new/",
            "/runs/",
            "/files/",
            "/usage/?by=teammate&measure=runs",
            "/search/?q=Donau",
        ],
    )


def starts_at_its_right(page: Page, selector: str) -> bool:
    """Whether the first letter of a text stands nearer to the right edge than the last one."""
    found = page.locator(selector).first.evaluate("""(element) => {
        const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
        const range = document.createRange();
        const at = (n) => { range.setStart(text, n); range.setEnd(text, n + 1);
                            return range.getBoundingClientRect(); };
        return at(0).right > at(5).right;
    }""")
    return bool(found)


# --- ten thousand rows ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy_site(make_server: MakeServer, browser: Browser) -> Iterator[Server]:
    server = make_server()
    sign_in(browser.new_page(), server)
    with server.client() as client:
        made = client.post("/api/v2/runs", json={"message": "Hello", "stream": False}).json()
        run = f"/api/v2/runs/{made['id']}"
        wait_for(lambda: client.get(run).json()["status"] == "completed")
        uid = client.get("/v1/runs?limit=1").json()[0]["run_id"]
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        fill(connection, like=uid, count=10_000)
    yield server
    server.stop()


def test_ten_thousand_rows_are_shown_in_pages(browser: Browser, busy_site: Server) -> None:
    page = browser.new_context(**PHONE).new_page()  # type: ignore[arg-type]
    sign_in(page, busy_site)
    lists = ["/runs/?q=", "/threads/", "/files/", "/needs-you/", "/search/?q=order", "/usage/", "/"]
    walk(page, busy_site, lists)
    for path in ("/runs/?q=", "/threads/", "/files/"):
        seen: set[str] = set()
        page.goto(busy_site.url + path)
        for _ in range(3):
            links = page.locator("main a[href]").evaluate_all(
                "all => all.map(one => one.getAttribute('href'))"
            )
            rows = {
                link for link in links if any(sign.isdigit() for sign in link) and "?" not in link
            }
            assert 10 < len(rows) < 300, path
            assert len(rows - seen) > 10, path
            seen |= rows
            page.get_by_role("link", name="Older").click()
            page.wait_for_url("**after=**")


def test_no_page_weighs_more_than_its_budget(browser: Browser, busy_site: Server) -> None:
    for path in (
        "/",
        "/runs/?q=",
        "/threads/",
        "/runs/1/",
        "/threads/1/",
        "/teammates/",
        "/usage/",
        "/settings/tools/",
    ):
        context = browser.new_context()
        page = context.new_page()
        sign_in(page, busy_site)
        page.goto(busy_site.url + path)
        weight = page.evaluate(WEIGHED)
        assert 20_000 < weight < WEIGHT, path
        context.close()
    sent = httpx2.get(f"{busy_site.url}/static/css/parts.css", trust_env=False)
    assert sent.headers["content-encoding"] == "gzip"
