"""Every page, in every look, keeps to WCAG 2.2 AA as far as axe-core can tell."""

from __future__ import annotations

from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from muniment.demo import day
from tests.browser.site import Site, query
from tests.browser.trail import hostile_events
from tests.browser.visiting import Visit, Visits

_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_ASKED: Final[dict[str, Any]] = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": _RULES},
}
_CHANGED = next(e for e in day() if e.action == "role_assign")
_REFUSED = next(e for e in day() if e.action == "document.export")
PAGES: Final = {
    "trail": "/" + query(),
    "now": "/",
    "chosen": "/" + query(tenant_id="waha", q="outcome:denied activity:people"),
    "empty": "/" + query(q="no such text"),
    "refused": "/" + query(q="nonsense:1"),
    "changes": f"/events/{_CHANGED.event_id}",
    "chain": f"/events/{_REFUSED.event_id}",
    "hostile": f"/events/{hostile_events()['markup'].event_id}",
    "live": "/live",
    "error": "/events/none",
    "sign-in": "/sign-in",
}
LOOKS: Final[list[tuple[Literal["light", "dark"], int]]] = [
    ("light", 1280),
    ("light", 400),
    ("dark", 400),
    ("dark", 1280),
]
BAD: Final = "<img src=data:,><button></button><p style=color:#bbb>grey</p>"


def _violations(page: Page) -> list[str]:
    """Each violation, with the elements that it is about."""
    found = Axe().run(page, options=_ASKED).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes'][:4]]}"
        for each in found
    ]


def _in_both_schemes(page: Page) -> list[str]:
    found = []
    for scheme, _ in LOOKS[1:3]:
        page.emulate_media(color_scheme=scheme)
        found += _violations(page)
    return found


@pytest.fixture
def open_page(visits: Visits, site: Site, cookie: str) -> Visit:
    """Opens a page into which axe can be put: the policy lets no other script in."""
    visits.allow("status of (400|404)")

    def opened(path: str) -> Page:
        page = visits.page(site.url, cookie=cookie, bypass_csp=True)
        page.goto(path)
        return page

    return opened


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_a_page_has_no_violation(open_page: Visit, path: str) -> None:
    """Not of a rule of WCAG 2.2 AA, nor of good practice: light and dark, wide and narrow."""
    page = open_page(path)
    found = []
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        found += [f"{scheme}, {width}: {each}" for each in _violations(page)]
    assert found == []


def test_what_opens_has_no_violation(open_page: Visit) -> None:
    """Nor do menus, completions, the table of the histogram and the dialog of keys."""
    page = open_page(PAGES["chosen"])
    page.get_by_text("As a table").click()
    page.locator("summary", has_text="Export").click()
    assert _in_both_schemes(page) == []
    page.get_by_label("Search the trail").press_sequentially(" outcome:")
    expect(page.get_by_role("option").first).to_be_visible()
    page.get_by_label("Search the trail").press("ArrowDown")
    assert _in_both_schemes(page) == []
    page.locator("[data-help]").click()
    assert _in_both_schemes(page) == []


def test_a_verdict_has_no_violation(open_page: Visit) -> None:
    """Nor does the proof once it is checked."""
    page = open_page(PAGES["chain"])
    page.locator("[data-verify]").click()
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "holds")
    assert _in_both_schemes(page) == []


def test_the_checker_finds_what_is_wrong(open_page: Visit) -> None:
    """A picture without a text, a control without a name and grey on white are told."""
    page = open_page(PAGES["sign-in"])
    page.locator("main").evaluate("(main, markup) => { main.innerHTML = markup; }", BAD)
    told = " ".join(_violations(page))
    assert "image-alt" in told
    assert "button-name" in told
    assert "color-contrast" in told
