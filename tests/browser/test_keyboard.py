"""The viewer without a pointer."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from muniment.demo import day
from tests.browser.site import query
from tests.browser.visiting import Visit

DENIED = query(tenant_id="waha", q="outcome:denied")


EVENT = next(e for e in day() if e.action == "role_assign")


def _focused(page: Page) -> Locator:
    return page.locator(":focus")


def _is_outlined(page: Page) -> bool:
    """Whether the focused element is outlined, or the line of the list that it stands in."""
    found: bool = _focused(page).evaluate(
        """(element) => [element, element.closest("li")].some(
            (each) => each && getComputedStyle(each).outlineStyle !== "none")"""
    )
    return found


def test_a_slash_leads_to_the_search(visit: Visit) -> None:
    """The box has the focus, and the slash does not stand in it."""
    page = visit("/" + DENIED)
    page.keyboard.press("/")
    expect(page.get_by_label("Search the trail")).to_be_focused()
    expect(page.get_by_label("Search the trail")).to_have_value("outcome:denied")


def test_an_event_is_found_and_opened_by_keys_alone(visit: Visit) -> None:
    """A search is typed, j and k go through its events, Enter opens one, and b leads back."""
    page = visit("/" + query(tenant_id="waha"))
    page.keyboard.press("/")
    page.keyboard.type("action:document.export")
    page.keyboard.press("Enter")
    page.wait_for_url("**document*")
    page.keyboard.press("j")
    expect(_focused(page)).to_contain_text("payments")
    page.keyboard.press("j")
    expect(_focused(page)).to_contain_text("grades")
    page.keyboard.press("k")
    expect(_focused(page)).to_contain_text("payments")
    page.keyboard.press("Enter")
    page.wait_for_url("**/events/**")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", level=1)).to_contain_text("grades")
    page.wait_for_load_state()
    page.keyboard.press("b")
    expect(page.get_by_label("Search the trail")).to_have_value("action:document.export")


def test_letters_in_the_search_are_text(visit: Visit) -> None:
    """While one types, j, k, ? and / move nothing; Escape leaves the box."""
    page = visit("/" + DENIED)
    box = page.get_by_label("Search the trail")
    box.fill("")
    box.press_sequentially("jk?/")
    expect(box).to_have_value("jk?/")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(box).not_to_be_focused()


@pytest.mark.parametrize("path", ["/" + DENIED, f"/events/{EVENT.event_id}", "/live"])
def test_a_question_mark_shows_the_keys(visit: Visit, path: str) -> None:
    """They stand in a dialog that holds the focus until Escape, on every page."""
    page = visit(path)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_be_visible()
    assert dialog.evaluate("(element) => element.contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_every_stop_of_tab_is_seen(visit: Visit) -> None:
    """From the first to the list, each element that has the focus is visible and outlined."""
    page = visit("/" + DENIED)
    first = page.locator("[data-events] .told").first
    for _ in range(120):
        page.keyboard.press("Tab")
        expect(_focused(page)).to_be_in_viewport()
        assert _is_outlined(page), _focused(page).evaluate("(element) => element.outerHTML")
        if first.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError("the list was not reached")


def test_the_first_stop_skips_to_the_content(visit: Visit) -> None:
    """Whoever does not want to tab through the head gets past it."""
    page = visit("/" + DENIED)
    page.keyboard.press("Tab")
    expect(_focused(page)).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search the trail")).to_be_focused()


def test_a_menu_closes_with_escape(visit: Visit) -> None:
    """The focus goes back to what opened it."""
    page = visit("/" + DENIED)
    menu = page.locator("summary", has_text="Export")
    menu.press("Enter")
    expect(page.locator("[data-format='csv']")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-format='csv']")).to_be_hidden()
    expect(menu).to_be_focused()


def test_the_live_tail_pauses_by_a_key(visit: Visit) -> None:
    """So does the space bar, and once more goes on."""
    page = visit("/live?tenant_id=nobody")
    button = page.locator("[data-pause]")
    page.keyboard.press("p")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "false")
