"""What the browser tests may ask for: a served trail, and a browser that is signed in to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.site import Site
from tests.browser.trail import build_trail, the_day
from tests.browser.visiting import Visit, Visits
from tests.servers.chromium import chromium


@pytest.fixture(scope="session")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of the made-up day, to be copied: nobody has a token for it yet."""
    database = tmp_path_factory.mktemp("trail") / "audit.db"
    build_trail(f"sqlite:///{database}", the_day())
    return database


@pytest.fixture(scope="session")
def site(trail: Path) -> Iterator[Site]:
    """The served day, shared by all tests: what one records is for a tenant of its own."""
    database = trail.with_name("served.db")
    shutil.copy(trail, database)
    with Site(database) as running:
        yield running


@pytest.fixture(scope="session")
def cookie(site: Site) -> str:
    """A session that sees every tenant."""
    return site.cookie()


# No longer than a module: while it is there, tests that have an event loop can't run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; pages in it share nothing."""
    with chromium() as running:
        yield running


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Makes pages of any kind; the test fails for what goes wrong in them unseen."""
    made = Visits(browser)
    yield made
    made.close()
    assert made.faults() == []


@pytest.fixture
def visit(visits: Visits, site: Site, cookie: str) -> Visit:
    """Opens a page of the served day, signed in for every tenant; options are a context's."""

    def open_page(path: str, **options: Any) -> Page:
        page = visits.page(site.url, cookie=cookie, **options)
        page.goto(path)
        return page

    return open_page
