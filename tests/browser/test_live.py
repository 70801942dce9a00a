"""The live tail, in front of a service that goes on recording."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site
from tests.browser.visiting import Visit, Visits
from tests.servers.ports import HeldPort

_NUMBERS = count(1)


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own."""
    return f"live-{next(_NUMBERS)}"


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody else gets while no service listens on it."""
    with HeldPort() as held:
        yield held.number


@pytest.fixture
def page(visit: Visit, tenant: str) -> Page:
    """The live page of that tenant's logins, connected: that it is looked at is an event too."""
    page = visit(f"/live?tenant_id={tenant}&q=action:login")
    expect(page.locator("[data-state='open']")).to_be_visible()
    return page


def _record(site: Site, tenant: str, who: str) -> None:
    site.record("login", tenant, actor={"type": "user", "id": who}, outcome="success")


def test_what_is_recorded_appears(page: Page, site: Site, tenant: str) -> None:
    """An event appears on top without anything being done."""
    expect(page.locator("[data-empty]")).to_be_visible()
    _record(site, tenant, "ann")
    _record(site, tenant, "bob")
    rows = page.locator("[data-events] > [data-event]")
    expect(rows.first).to_contain_text("bob")
    expect(rows.nth(1)).to_contain_text("ann")
    expect(page.locator("[data-empty]")).to_be_hidden()


def test_while_it_is_paused_events_wait(page: Page, site: Site, tenant: str) -> None:
    """The list stands still, and says how many wait."""
    page.get_by_role("button", name="Pause").click()
    for who in ("ann", "bob", "cleo"):
        _record(site, tenant, who)
    expect(page.locator("[data-waiting]")).to_have_text("3 waiting")
    expect(page.locator("[data-events] > [data-event]")).to_have_count(0)


def test_going_on_shows_what_waited(page: Page, site: Site, tenant: str) -> None:
    """All that waited is there at once, newest on top."""
    page.keyboard.press("p")
    for who in ("ann", "bob"):
        _record(site, tenant, who)
    expect(page.locator("[data-waiting]")).to_have_text("2 waiting")
    page.keyboard.press("p")
    rows = page.locator("[data-events] > [data-event]")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("bob")


def test_a_filter_holds_for_what_comes(visit: Visit, site: Site, tenant: str) -> None:
    """Only what fits the filter appears."""
    page = visit(f"/live?tenant_id={tenant}")
    page.get_by_label("Show only").fill("outcome:denied action:login")
    page.keyboard.press("Enter")
    page.wait_for_url("**outcome*")
    expect(page.locator("[data-state='open']")).to_be_visible()
    _record(site, tenant, "ann")
    site.record("login", tenant, actor={"type": "user", "id": "bob"}, outcome="denied")
    rows = page.locator("[data-events] > [data-event]")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("bob")


def test_it_goes_on_after_the_service_was_away(visits: Visits, tmp_path: Path, port: int) -> None:
    """What was recorded while it could not be reached is there once it can be."""
    visits.allow("ERR_|status of 503")
    database = tmp_path / "audit.db"
    with Site(database, port=port) as first:
        page = visits.page(first.url, cookie=first.cookie())
        page.goto("/live?tenant_id=acme&q=action:login")
        expect(page.locator("[data-state='open']")).to_be_visible()
        _record(first, "acme", "ann")
        expect(page.locator("[data-events] > [data-event]")).to_have_count(1)
    expect(page.locator("[data-state='open']")).to_be_hidden()
    with Site(database, first.token, port=port) as second:
        _record(second, "acme", "bob")
        rows = page.locator("[data-events] > [data-event]")
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("bob")


def test_it_says_that_its_session_has_ended(page: Page, visits: Visits) -> None:
    """Nobody waits for events that will not come: the way to sign in again is there."""
    visits.allow("status of 401")
    page.context.clear_cookies()
    page.evaluate("dispatchEvent(new Event('online'))")  # it connects anew
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    page.get_by_role("link", name="Sign in again").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_what_is_hostile_stays_text(page: Page, site: Site, tenant: str) -> None:
    """Markup in an event that comes while one looks is shown as it was written."""
    markup = "<img src=x onerror=harm()>"
    site.record("login", tenant, actor={"type": "user", "id": "u1", "name": markup})
    expect(page.locator("[data-events] > [data-event]")).to_contain_text(markup)
    expect(page.locator("[data-events] img")).to_have_count(0)
