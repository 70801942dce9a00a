"""Scripts of the viewer that work on what stands in a page, each in a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from muniment.http.viewer.assets import assets
from tests.servers.chromium import chromium

_ORIGIN: Final = "http://localhost"
_RANGE: Final = """
    <form data-range>
      <label for="since" data-utc="from (UTC)" data-local="from">from (UTC)</label>
      <input id="since" name="since" type="datetime-local" step="1" value="2026-03-28T23:30:05">
      <label for="until" data-utc="to (UTC)" data-local="to">to (UTC)</label>
      <input id="until" name="until" type="datetime-local" step="1" value="2026-03-29T12:00:30">
      <button>go</button>
    </form>
"""
_SHOW_RANGE: Final = """async () => {
    const { startRange } = await import("/range.js");
    globalThis.show = startRange(document.querySelector("[data-range]"));
    show();
}"""
_SAVED: Final = """
    <details data-saved data-none="none" data-remove="remove NAME" open><summary>saved</summary>
      <ul data-saved-list></ul><form data-save><input id="save-name"><button>save</button></form>
    </details>
"""
_START_SAVED: Final = """async () => {
    const { startSaved } = await import("/saved.js");
    startSaved(document.querySelector("[data-saved]"));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all of them."""
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page in a zone that is two hours, and an hour before, ahead of UTC."""
    context = browser.new_context(timezone_id="Europe/Berlin", base_url=_ORIGIN)
    context.route("**/*", _answer)
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()


def _answer(route: Route) -> None:
    name = urlsplit(route.request.url).path.removeprefix("/")
    if name in assets():
        route.fulfill(body=assets()[name].content, content_type=assets()[name].media_type)
    else:
        route.fulfill(body="<!doctype html><title>.</title>", content_type="text/html")


def test_a_range_is_typed_in_the_zone_of_the_page(page: Page) -> None:
    """And asked for in UTC, summer time or not; it may be changed in one zone or the other."""
    page.evaluate("(markup) => { document.body.innerHTML = markup; }", _RANGE)
    page.evaluate(_SHOW_RANGE)
    since, until = page.locator("#since"), page.locator("#until")
    expect(since).to_have_value("2026-03-29T00:30:05")
    expect(until).to_have_value("2026-03-29T14:00:30")
    expect(page.locator("label").first).to_have_text("from")
    until.fill("2026-03-29T15:00:30")
    page.evaluate("() => { document.documentElement.dataset.zone = 'utc'; show(); }")
    expect(since).to_have_value("2026-03-28T23:30:05")
    expect(until).to_have_value("2026-03-29T13:00:30")
    expect(page.locator("label").first).to_have_text("from (UTC)")
    page.evaluate("() => { document.documentElement.dataset.zone = 'local'; show(); }")
    with page.expect_navigation():
        page.get_by_role("button").click()
    asked = parse_qs(urlsplit(page.url).query)
    assert asked == {"since": ["2026-03-28T23:30:05Z"], "until": ["2026-03-29T13:00:30Z"]}


def test_an_open_range_stays_one(page: Page) -> None:
    """Who clears the end asks for none."""
    page.evaluate("(markup) => { document.body.innerHTML = markup; }", _RANGE)
    page.evaluate(_SHOW_RANGE)
    page.locator("#until").fill("")
    with page.expect_navigation():
        page.get_by_role("button").click()
    assert parse_qs(urlsplit(page.url).query) == {"since": ["2026-03-28T23:30:05Z"]}


def test_a_saved_search_begins_at_its_first_page(page: Page) -> None:
    """Whichever page of it was looked at when it was saved."""
    page.goto("/?q=outcome%3Adenied&since=7d&cursor=abc")
    page.evaluate("(markup) => { document.body.innerHTML = markup; }", _SAVED)
    page.evaluate(_START_SAVED)
    page.locator("#save-name").fill("denied")
    page.locator("#save-name").press("Enter")
    saved = page.get_by_role("link", name="denied")
    expect(saved).to_have_attribute("href", "/?q=outcome%3Adenied&since=7d")


def test_a_time_of_day_is_told_with_its_day(page: Page) -> None:
    """Unless that is today, in the zone of the page."""
    page.clock.set_fixed_time("2026-11-26T22:30:00Z")  # half past eleven in the evening
    moments = ("2026-11-26T22:10:05Z", "2026-11-25T23:10:05Z", "2026-11-25T22:10:05Z")
    markup = "".join(f'<time datetime="{each}" data-form="time"></time>' for each in moments)
    page.evaluate("(markup) => { document.body.innerHTML = markup; }", markup)
    page.evaluate("async () => (await import('/times.js')).showTimes(document)")
    expect(page.locator("time")).to_have_text(["23:10:05", "00:10:05", "Nov 25, 23:10:05"])
