"""The viewer in a frame of a host application, which lets its people in by links."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser.hosting import host
from tests.browser.site import Site, query
from tests.browser.trail import copy_of
from tests.browser.visiting import Visits

NAME = "Jürgen Weiß"
"""Somebody of the tenant nordlicht."""
REFUSED = "status of (401|403|404)"


class Embedding(NamedTuple):
    """A site that lets itself be framed by `host`, and not by `stranger`."""

    site: Site
    host: str
    stranger: str


@pytest.fixture(scope="module")
def embedding(trail: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedding]:
    """A site that may be embedded, and two host applications."""
    database = tmp_path_factory.mktemp("embedded") / "audit.db"
    copy_of(trail, database).close()
    with ExitStack() as stack:
        listed, stranger = stack.enter_context(host()), stack.enter_context(host())
        site = stack.enter_context(Site(database, MUNIMENT_HTTP_FRAME_ANCESTORS=listed))
        yield Embedding(site, listed, stranger)


@pytest.fixture
def page(visits: Visits, embedding: Embedding) -> Page:
    """A browser that has no session yet."""
    return visits.page(embedding.site.url, also=f"{embedding.host} {embedding.stranger}")


def _framed(page: Page, origin: str, src: str) -> FrameLocator:
    """The frame of a host application's page, which is open now."""
    page.goto(f"{origin}/?{urlencode({'src': src})}")
    return page.frame_locator("iframe")


def test_a_link_opens_the_trail_of_its_tenant(page: Page, embedding: Embedding) -> None:
    """In the frame stands the tenant's trail, though the host is another site."""
    frame = _framed(page, embedding.host, embedding.site.link("nordlicht"))
    expect(frame.get_by_role("navigation", name="Main")).to_be_visible()
    expect(frame.locator(".whose")).to_contain_text("nordlicht")


def test_the_session_goes_on_in_the_frame(page: Page, embedding: Embedding) -> None:
    """Every page of the viewer opens there, once the link has been used."""
    _framed(page, embedding.host, embedding.site.link("nordlicht"))
    frame = _framed(page, embedding.host, f"{embedding.site.url}/{query(q='action:login')}")
    expect(frame.get_by_text(NAME).first).to_be_visible()


def test_a_link_of_another_tenant_shows_nothing_of_this_one(
    visits: Visits, page: Page, embedding: Embedding
) -> None:
    """Whoever asks for another tenant's trail is refused, and sees no name of it."""
    visits.allow(REFUSED)
    _framed(page, embedding.host, embedding.site.link("qingyun"))
    asked = f"{embedding.site.url}/{query(tenant_id='nordlicht')}"
    frame = _framed(page, embedding.host, asked)
    expect(frame.get_by_role("heading", name="That isn't yours to see")).to_be_visible()
    expect(frame.get_by_text(NAME)).to_have_count(0)


def test_a_link_of_another_tenant_opens_no_event_of_this_one(
    visits: Visits, page: Page, embedding: Embedding
) -> None:
    """The event's page says what it says of an event that isn't there."""
    visits.allow(REFUSED)
    event_id = embedding.site.events(tenant_id="nordlicht", limit="1")[0]["event_id"]
    _framed(page, embedding.host, embedding.site.link("qingyun"))
    frame = _framed(page, embedding.host, f"{embedding.site.url}/events/{event_id}")
    expect(frame.get_by_role("heading", name="There is nothing here")).to_be_visible()


def test_a_used_link_is_refused(visits: Visits, page: Page, embedding: Embedding) -> None:
    """In another browser a link that was opened once says that it is spent."""
    visits.allow(REFUSED)
    link = embedding.site.link("nordlicht")
    _framed(page, embedding.host, link)
    other = visits.page(embedding.site.url, also=embedding.host)
    frame = _framed(other, embedding.host, link)
    expect(frame.get_by_text("each is good once")).to_be_visible()


def test_an_origin_that_is_not_listed_gets_no_frame(
    visits: Visits, page: Page, embedding: Embedding
) -> None:
    """The browser refuses to show the viewer there: the policy does not name that origin."""
    visits.allow("frame-ancestors")
    frame = _framed(page, embedding.stranger, embedding.site.link("nordlicht"))
    visits.hear(page, "frame-ancestors")
    expect(frame.get_by_role("navigation", name="Main")).to_have_count(0)


def test_no_page_is_framed_unless_that_is_set(
    visits: Visits, site: Site, embedding: Embedding
) -> None:
    """A service that names no origin is not framed by any."""
    visits.allow("frame-ancestors")
    page = visits.page(site.url, also=embedding.host)
    frame = _framed(page, embedding.host, f"{site.url}/sign-in")
    visits.hear(page, "frame-ancestors")
    expect(frame.get_by_label("Token")).to_have_count(0)
