"""Finding an event in the trail: a query, its completion, facets, pages."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.site import query
from tests.browser.visiting import Visit

ONE_TENANT = query(tenant_id="waha")


def _results(page: Page) -> list[str]:
    """The event_ids in the list, from the top."""
    found: list[str] = page.locator("[data-events] > li").evaluate_all(
        "(rows) => rows.map((row) => row.dataset.event)"
    )
    return found


def _follow(page: Page, link: Locator) -> None:
    """Be on the page that a link leads to, which may have an address much like this one's."""
    before = page.url
    link.click()
    page.wait_for_url(lambda url: url != before)


def test_a_query_finds_what_it_says(visit: Visit) -> None:
    """A filter typed into the box leaves the events that fit it, each as a sentence."""
    page = visit("/" + ONE_TENANT)
    box = page.get_by_label("Search the trail")
    box.fill("outcome:denied actor:a-tutor action:document.export")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=outcome*")
    expect(page.locator("[data-events] > li")).to_have_count(3)
    expect(page.locator("[data-events] > li").first).to_contain_text("payments")
    expect(page.locator("[data-events] > li").first).to_contain_text("ليلى حداد")
    expect(page.get_by_role("heading", name="3 events")).to_be_visible()


def test_text_is_found_in_any_script(visit: Visit) -> None:
    """A bare word finds what stands in an event, such as an Arabic name."""
    page = visit("/" + query(q="حارس"))
    expect(page.locator("[data-events] > li")).to_have_count(1)
    expect(page.locator("[data-events] > li")).to_contain_text("حارس المنصة")


def test_keys_and_values_are_completed(visit: Visit) -> None:
    """The box offers the keys of the language, then the values of one, and takes the chosen one."""
    page = visit("/" + ONE_TENANT)
    box = page.get_by_label("Search the trail")
    box.press_sequentially("outc")
    expect(page.get_by_role("option", name="outcome:")).to_be_visible()
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("outcome:")
    box.press_sequentially("den")
    page.get_by_role("option", name="outcome:denied").click()
    expect(box).to_have_value(re.compile("^outcome:denied ?$"))
    box.press("Enter")
    page.wait_for_url("**q=outcome*")
    expect(page.locator("[data-events] [data-outcome='success']")).to_have_count(0)


def test_a_facet_narrows_down_and_back(visit: Visit) -> None:
    """A value of a facet is a link that asks for it; chosen once more, for all again."""
    page = visit("/" + ONE_TENANT)
    failures = page.get_by_label("Outcome").get_by_role("link", name="Failure")
    failures.click()
    expect(page.get_by_label("Search the trail")).to_have_value("outcome:failure")
    expect(page.locator("[data-events] [data-outcome='success']")).to_have_count(0)
    failures.click()
    expect(page.get_by_label("Search the trail")).to_have_value("")


def test_a_tenant_is_picked_and_let_go(visit: Visit) -> None:
    """By a click on it; then the list is of that tenant, until it is clicked again."""
    page = visit("/" + query())
    tenant = page.get_by_label("Tenant").get_by_role("link", name="waha")
    tenant.click()
    page.wait_for_url("**tenant_id=waha*")
    expect(page.locator("[data-events] .tag")).to_have_count(0)
    expect(page.locator("[name='tenant_id']").first).to_have_value("waha")
    tenant.click()
    page.wait_for_url(lambda url: "tenant_id" not in url)
    expect(page.locator("[data-events] .tag").first).to_be_visible()


def test_a_tenant_is_completed(visit: Visit) -> None:
    """In the search box, and in the field beside it."""
    page = visit("/" + query())
    box = page.get_by_label("Search the trail")
    box.press_sequentially("tenant:w")
    page.get_by_role("option", name="tenant:waha").click()
    box.press("Enter")
    page.wait_for_url("**tenant*waha*")
    expect(page.locator("#tenant_id")).to_have_value("waha")
    page.locator("#tenant_id").focus()
    expect(page.locator("datalist#tenants option[value='nordlicht']")).to_be_attached()


def test_readings_are_one_click_away(visit: Visit) -> None:
    """The page that is looked at is not in itself, and says so."""
    visit("/?q=okapi")
    page = visit("/?q=okapi")
    expect(page.locator("[data-events] > li")).to_have_count(0)
    page.locator(".readings a").click()
    page.wait_for_url("**activity*")
    rows = page.locator("[data-events] > li")
    expect(rows.filter(has_text="audit.view").first).to_be_visible()
    page.locator(".readings a").click()
    page.wait_for_url(lambda url: "activity" not in url)
    expect(rows).to_have_count(0)


def test_people_and_background_are_told_apart(visit: Visit) -> None:
    """What people do is shown without what happens by itself, and the other way around."""
    page = visit("/" + ONE_TENANT)
    page.get_by_role("link", name=re.compile("^People")).click()
    page.wait_for_url("**activity*")
    rows = page.locator("[data-events] > li")
    expect(rows.filter(has_text="schedule_tick")).to_have_count(0)
    expect(rows.filter(has_text="login_failed").first).to_be_visible()
    page.get_by_role("link", name=re.compile("^Background")).click()
    page.wait_for_url("**background*")
    expect(rows.filter(has_text="schedule_tick").first).to_be_visible()
    expect(rows.filter(has_text="login_failed")).to_have_count(0)


def test_the_next_page_goes_on_where_this_one_ends(visit: Visit) -> None:
    """All pages together show each event once, and the last has no next one."""
    page = visit("/" + query(tenant_id="waha", q="activity:people"))
    seen = _results(page)
    more = page.get_by_role("link", name="More events")
    while more.count():
        _follow(page, more)
        found = _results(page)
        assert not set(found) & set(seen)
        seen += found
    heading = page.locator("h2", has_text="events").first.inner_text()
    assert len(seen) == int(heading.split()[0])


def test_the_order_turns_around(visit: Visit) -> None:
    """Oldest first begins with the day's first event."""
    page = visit("/" + ONE_TENANT)
    newest = _results(page)[0]
    page.get_by_role("link", name="Oldest first").click()
    page.wait_for_url("**order=oldest*")
    assert _results(page)[0] < newest


def test_the_url_is_the_state(visit: Visit) -> None:
    """Whoever is given the address sees the same events; going back undoes a step."""
    page = visit("/" + ONE_TENANT)
    page.get_by_label("Outcome").get_by_role("link", name="Denied").click()
    page.wait_for_url("**denied*")
    shown = _results(page)
    other = visit(page.url)
    assert _results(other) == shown
    page.go_back()
    expect(page.get_by_label("Search the trail")).to_have_value("")


def test_a_search_is_saved_in_the_browser(visit: Visit) -> None:
    """Under the name that it is given it is found again, until it is removed."""
    page = visit("/" + query(tenant_id="waha", q="outcome:denied"))
    page.get_by_text("Saved", exact=True).click()
    page.get_by_label("Name", exact=True).fill("Refusals <b>")
    page.keyboard.press("Enter")
    page.goto("/")
    page.get_by_text("Saved", exact=True).click()
    page.get_by_role("link", name="Refusals <b>").click()
    expect(page.get_by_label("Search the trail")).to_have_value("outcome:denied")
    page.get_by_text("Saved", exact=True).click()
    page.get_by_role("button", name="Remove Refusals").click()
    expect(page.get_by_role("link", name="Refusals")).to_have_count(0)
