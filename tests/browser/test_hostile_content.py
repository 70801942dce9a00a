"""Events whose every field means harm stay text, and the pages stay readable."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import query
from tests.browser.trail import HOSTILE, INJECTED, MARKUP, hostile_events
from tests.browser.visiting import Visit

EVENTS = hostile_events()
LISTED = query(tenant_id=HOSTILE)
# What could move others about, or control a terminal, if somebody copied it.
HIDDEN = (
    r"[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
INERT = f"""() => {{
    const isOurs = ({{ src, type }}) => src || type === "application/json";
    const strange = [...document.querySelectorAll("#{INJECTED}, [onerror], [onload]")];
    strange.push(...[...document.scripts].filter((script) => !isOurs(script)));
    strange.push(...[...document.links].filter(({{ href }}) => !href.startsWith(location.origin)));
    return strange.map((element) => element.outerHTML.slice(0, 200));
}}"""


def _is_harmless(page: Page) -> bool:
    """Nothing of an event became an element, a script or a link to elsewhere; no text hides."""
    assert page.evaluate(INERT) == []
    hidden = page.evaluate(f"() => document.body.innerText.match(/{HIDDEN}/g)")
    assert hidden is None, [hex(ord(c)) for c in hidden]
    return True


def _fits(page: Page) -> bool:
    """Nothing has to be scrolled for sideways, in a wide window and in a narrow one."""
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 800})
        if page.evaluate("() => document.documentElement.scrollWidth > innerWidth"):
            return False
    return True


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_page_is_harmless(visit: Visit, name: str) -> None:
    """The page of such an event holds it as text, and is no wider than the window."""
    page = visit(f"/events/{EVENTS[name].event_id}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert _is_harmless(page)
    assert _fits(page)


def test_the_trail_is_harmless(visit: Visit) -> None:
    """So is the list of them, with its facets and the tenant's own name."""
    page = visit("/" + LISTED)
    expect(page.locator("[data-events] > li")).to_have_count(len(EVENTS))
    assert _is_harmless(page)
    assert _fits(page)


def test_the_live_tail_is_harmless(visit: Visit) -> None:
    """So is the tail."""
    page = visit("/live?" + urlencode({"tenant_id": HOSTILE}))
    expect(page.locator("[data-state='open']")).to_be_visible()
    expect(page.locator("[data-events] > li").first).to_be_visible()
    assert _is_harmless(page)
    assert _fits(page)


def test_a_query_is_text_too(visit: Visit) -> None:
    """What stands in the address is shown in the box, and nowhere run."""
    page = visit("/" + query(q=f'"{MARKUP.replace(chr(34), chr(39))}"'))
    expect(page.get_by_label("Search the trail")).to_have_value(
        f'"{MARKUP.replace(chr(34), chr(39))}"'
    )
    assert _is_harmless(page)


def test_markup_is_shown_as_it_was_written(visit: Visit) -> None:
    """A reader sees which markup somebody tried."""
    page = visit(f"/events/{EVENTS['markup'].event_id}")
    expect(page.locator("#details")).to_contain_text("<svg/onload=harm()>")


@pytest.mark.parametrize(
    ("name", "escape"),
    [("ansi", "\\x1b[31mred"), ("bidi", "invoice\\u202egnp"), ("controls", "nul:\\x00 bell")],
)
def test_what_hides_is_shown_as_an_escape(visit: Visit, name: str, escape: str) -> None:
    """A reader sees that it is there, and nothing is turned around by it."""
    page = visit(f"/events/{EVENTS[name].event_id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(escape)


def test_a_large_event_is_shown_in_part_first(visit: Visit) -> None:
    """200 KiB of details: the page is light at once, and shows the whole when asked."""
    page = visit(f"/events/{EVENTS['text'].event_id}")
    assert len(page.content()) < 120_000
    page.get_by_role("link", name="Show all of it").click()
    page.wait_for_url("**whole*")
    assert len(page.locator("#details").inner_text()) > 200_000
    assert _is_harmless(page)
