"""Every page as a picture, light and dark, on a desktop and on a phone, in `.shots/`:

uv run pytest tests/e2e/screenshots.py
"""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import CHECKOUT, Server
from tests.e2e import world
from tests.e2e.conftest import sign_in
from tests.e2e.pages import PAGES, RUN_TABS, TEAMMATE_TABS, of_task, of_webhook

SHOTS = CHECKOUT / ".shots"
KINDS: dict[str, dict[str, object]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    "zoomed": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
}
MORE = [
    "/threads/1/",
    "/threads/3/",
    "/threads/10/",
    *(f"/runs/1/?tab={tab}" for tab in RUN_TABS),
    *(f"/runs/3/?tab={tab}" for tab in RUN_TABS),
    "/runs/4/",
    *(f"/teammates/4/?tab={tab}" for tab in TEAMMATE_TABS),
    *of_task(5),
    *of_webhook(1),
    "/webhooks/1/deliveries/1/",
]


@pytest.mark.timeout(900)
def test_every_page_has_its_picture(browser: Browser, site: Server) -> None:
    context = browser.new_context()
    sign_in(context.new_page(), site)
    state = context.storage_state()
    world.fill(site.url, site.key, site.database_url)
    SHOTS.mkdir(exist_ok=True)
    for kind, options in KINDS.items():
        page = browser.new_context(storage_state=state, **options).new_page()  # type: ignore[arg-type]
        for path in [*PAGES, *MORE]:
            page.goto(site.url + path)
            page.wait_for_timeout(150)  # for what comes after the first paint
            page.screenshot(path=name_of(path, kind), full_page=True)


def name_of(path: str, kind: str) -> Path:
    words = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "home"
    return SHOTS / f"{words}.{kind}.png"
