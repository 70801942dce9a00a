"""The watch over every page of these tests sees what it is there for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.site import Site
from tests.browser.visiting import Visits

_POLICY = "Content Security Policy"


@pytest.fixture
def watched(browser: Browser) -> Iterator[Visits]:
    """Visits whose faults fail no test."""
    made = Visits(browser)
    yield made
    made.close()


@pytest.fixture
def page(watched: Visits, site: Site) -> Page:
    """A page of the viewer, in which nothing was wrong so far."""
    page = watched.page(site.url)
    page.goto("/sign-in")
    assert watched.faults() == []
    return page


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("document.body.innerHTML = '<img src=data:, onerror=harm()>'", _POLICY),
        (
            "document.body.append(Object.assign(document.createElement('script'), {text: '1'}))",
            _POLICY,
        ),
        ("setTimeout(() => alert('hello'))", "dialog: hello"),
        ("setTimeout(() => harm())", "a script of an event ran"),
        ("console.error('oh no')", "oh no"),
        ("void fetch('https://example.com/').catch(() => {})", _POLICY),
        ("document.location = 'https://example.com/'", "another origin"),
    ],
)
def test_what_must_not_happen_is_told(watched: Visits, page: Page, harm: str, told: str) -> None:
    """Inline scripts, dialogs, errors, and requests to anywhere else."""
    page.evaluate(f"() => {{ {harm} }}")
    watched.hear(page, told)
    assert any(told in fault for fault in watched.faults())
