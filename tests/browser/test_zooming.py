"""The histogram: a look closer, and from further away."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.site import query
from tests.browser.visiting import Visit

DAY = query(tenant_id="waha")


def _range(page: Page) -> tuple[str, str]:
    """Since and until, as the address has them."""
    asked = parse_qs(urlsplit(page.url).query)
    return asked["since"][0], asked["until"][0]


def _bar_at(page: Page, moment: str) -> str:
    """A selector of the bar that begins then."""
    seconds = page.evaluate("(moment) => Date.parse(moment) / 1000", moment)
    return f"[data-start='{int(seconds)}']"


def test_a_click_on_a_bar_shows_its_time_alone(visit: Visit) -> None:
    """The range becomes the bar's, and all that stood in it is listed."""
    page = visit("/" + DAY)
    page.locator(_bar_at(page, "2025-03-04T23:00:00Z")).click()
    page.wait_for_url("**23%3A00*")
    assert _range(page) == ("2025-03-04T23:00:00Z", "2025-03-04T23:30:00Z")
    expect(page.locator("[data-events] > li").filter(has_text="login_failed")).to_have_count(23)


def test_a_drag_shows_what_it_went_over(visit: Visit) -> None:
    """The range becomes that of the bars that were dragged across, from either side."""
    page = visit("/" + DAY)
    start = page.locator(_bar_at(page, "2025-03-04T08:00:00Z")).bounding_box()
    end = page.locator(_bar_at(page, "2025-03-04T06:00:00Z")).bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_url("**06%3A00*")
    assert _range(page) == ("2025-03-04T06:00:00Z", "2025-03-04T08:30:00Z")


def test_zooming_out_doubles_the_range(visit: Visit) -> None:
    """It shows as much time again, half of it on each side."""
    page = visit("/" + DAY)
    page.get_by_role("link", name="Zoom out").click()
    page.wait_for_url("**2025-03-03*")
    assert _range(page) == ("2025-03-03T12:00:00Z", "2025-03-05T12:00:00Z")


def test_the_same_numbers_stand_in_a_table(visit: Visit) -> None:
    """Who can't see the bars has their counts as a table, whose links zoom too."""
    page = visit("/" + DAY)
    page.get_by_text("As a table").click()
    line = page.get_by_role("row").filter(has_text="23:00")
    expect(line.get_by_role("cell").nth(1)).to_have_text("23")
    line.get_by_role("link").press("Enter")
    page.wait_for_url("**23%3A00*")
    assert _range(page)[0] == "2025-03-04T23:00:00Z"
