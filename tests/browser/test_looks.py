"""Light and dark, wide and narrow, English and Chinese, here and in UTC."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from muniment.demo import day
from tests.browser.site import query
from tests.browser.visiting import Visit, Visits

EVENT = next(e for e in day() if e.tenant_id == "qingyun" and e.action == "role_assign")
PAGES = {
    "trail": "/" + query(),
    "event": f"/events/{EVENT.event_id}",
    "live": "/live",
    "sign-in": "/sign-in",
    "empty": "/" + query(q="no such text"),
    "refused": "/?q=nonsense:1",
    "error": "/events/none",
}
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"


def _brightness(page: Page) -> float:
    """Of what is behind everything, from 0 to 1."""
    color: str = page.evaluate(BACKGROUND)
    channels = [int(part) for part in color.strip("rgb()").split(",")]
    return sum(channels) / 3 / 255


@pytest.fixture(autouse=True)
def _error_pages(visits: Visits) -> None:
    visits.allow("status of (400|404)")


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_a_narrow_page_fits(visit: Visit, path: str) -> None:
    """At 400 pixels nothing is cut off, and nothing has to be scrolled for sideways."""
    page = visit(path, viewport={"width": 400, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_a_page_is_dark_where_the_system_is(visit: Visit, path: str) -> None:
    """It follows the system, without being asked."""
    page = visit(path, color_scheme="dark")
    assert _brightness(page) < 0.2
    page.emulate_media(color_scheme="light")
    assert _brightness(page) > 0.9


def test_the_reader_chooses_light_or_dark(visit: Visit) -> None:
    """The button overrules the system, and the choice holds on the next page."""
    page = visit(PAGES["trail"], color_scheme="light")
    button = page.locator("[data-theme-button]")
    button.click()
    button.click()
    assert _brightness(page) < 0.2
    page.goto(PAGES["live"])
    assert _brightness(page) < 0.2


def test_chinese_where_the_reader_reads_it(visit: Visit) -> None:
    """The browser's language decides; the page says that it is Chinese, and so do its words."""
    page = visit(PAGES["event"], locale="zh-CN")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    expect(page.get_by_role("heading", level=1)).to_contain_text("王芳")
    assert "Who acted" not in page.locator("main").inner_text()


def test_the_language_is_chosen_and_kept(visit: Visit) -> None:
    """A link changes it, and the links of that page keep it."""
    page = visit(PAGES["trail"])
    page.get_by_role("link", name="中文").click()
    page.wait_for_url("**lang=zh*")
    page.locator("[data-events] .told").first.click()
    page.wait_for_url("**/events/**")
    expect(page.locator("html")).to_have_attribute("lang", "zh")


def test_times_are_the_readers_own(visit: Visit) -> None:
    """They stand in the browser's time zone, or in UTC if the reader would rather."""
    page = visit(
        "/" + query(tenant_id="waha", q="action:user_deactivate"), timezone_id="Asia/Tokyo"
    )
    shown = page.locator(".overview time").first
    expect(shown).to_contain_text("09:00")
    page.locator("[data-zone-button]").click()
    expect(shown).to_contain_text("00:00")


def test_arabic_names_run_their_own_way(visit: Visit) -> None:
    """A name from right to left is isolated: what stands around it keeps its place."""
    page = visit("/" + query(tenant_id="waha", q="action:user_deactivate"))
    told = page.locator("[data-events] .told").first
    boxes = told.locator("bdi").evaluate_all(
        "(all) => all.map((each) => each.getBoundingClientRect().x)"
    )
    assert boxes == sorted(boxes)


@pytest.mark.parametrize("path", ["trail", "event", "live"])
def test_a_page_is_readable_without_scripts(visit: Visit, path: str) -> None:
    """All but what scripts do is there, and no control that would do nothing."""
    page = visit(PAGES[path], java_script_enabled=False)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.locator("main a").first).to_be_visible()
    expect(page.locator(".needs-script:visible")).to_have_count(0)
