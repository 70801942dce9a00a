"""When there is nothing to show, or something is wrong, the page says what to do."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.site import Site, query
from tests.browser.visiting import Visit, Visits


@pytest.fixture(autouse=True)
def _error_pages(visits: Visits) -> None:
    visits.allow("status of (400|403|404)")


def test_a_query_that_is_none_can_be_mended(visit: Visit) -> None:
    """It still stands in the box, with what is wrong with it; mended, it finds."""
    page = visit("/" + query(q="colour:red"))
    box = page.get_by_label("Search the trail")
    expect(page.get_by_role("alert")).to_contain_text("colour")
    expect(box).to_have_value("colour:red")
    box.fill("outcome:denied")
    box.press("Enter")
    expect(page.locator("[data-events] > li").first).to_be_visible()


def test_an_empty_range_leads_to_where_something_is(visit: Visit) -> None:
    """Last week holds nothing of the tenant: the page knows when the newest event was."""
    page = visit("/?tenant_id=waha&q=action:user_deactivate")
    expect(page.get_by_text("Nothing was found")).to_be_visible()
    page.get_by_role("link", name="Show the time around it").click()
    expect(page.locator("[data-events] > li")).to_have_count(1)


def test_a_search_for_nothing_there_is_can_be_cleared(visit: Visit) -> None:
    """No event is like that at any time: the page offers to drop the conditions."""
    page = visit("/" + query(tenant_id="waha", q="action:identity_bind"))
    page.get_by_role("link", name="Clear the search").click()
    expect(page.locator("[data-events] > li").first).to_be_visible()


def test_an_empty_trail_says_that_it_is(visits: Visits, site: Site) -> None:
    """A tenant that is new is told that its first event will show up."""
    page = visits.page(site.url, cookie=site.cookie("newcomer"))
    page.goto("/" + query())
    expect(page.get_by_text("Nothing was found")).to_be_visible()


def test_an_event_that_is_not_there(visit: Visit) -> None:
    """The page says so, and leads back to the trail."""
    page = visit("/events/01956366-3ec0-7000-abf1-6da7ca66d9ff")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    page.get_by_role("link", name="To the trail").click()
    expect(page).to_have_url(re.compile("/$"))


def test_another_tenants_event_is_not_there(visits: Visits, site: Site) -> None:
    """It gets the page of an event that isn't, to the letter, but for the id."""
    (theirs, *_) = site.events(tenant_id="waha", action="user_deactivate")
    none = "01956366-3ec0-7000-abf1-6da7ca66d9ff"
    page = visits.page(site.url, cookie=site.cookie("nordlicht"))
    said = []
    for event_id in (theirs["event_id"], none):
        page.goto(f"/events/{event_id}")
        said.append(page.locator("main").inner_text().replace(event_id, ""))
    assert said[0] == said[1]


def test_another_tenants_trail_is_refused(visits: Visits, site: Site) -> None:
    """A session of one tenant that asks for another is told that it may not."""
    page = visits.page(site.url, cookie=site.cookie("nordlicht"))
    page.goto("/" + query(tenant_id="waha"))
    expect(page.get_by_role("heading", level=1)).to_have_text("That isn't yours to see")
