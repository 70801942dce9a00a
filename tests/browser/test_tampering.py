"""What somebody with the database's file did to it is found by the browser of whoever looks."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from muniment.merkle import leaf_hash
from tests.browser.site import Site
from tests.browser.trail import HOSTILE, copy_of, hostile_events
from tests.browser.visiting import Visits

INTACT = hostile_events()["targets"].event_id
EDITED = hostile_events()["script"].event_id
REHASHED = hostile_events()["markup"].event_id
FINAL = re.compile("^(holds|fails)$")


@pytest.fixture(scope="module")
def tampered(trail: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The served day, after one event was edited, and another one with its hash."""
    database = tmp_path_factory.mktemp("tampered") / "audit.db"
    with closing(copy_of(trail, database)) as connection, connection:
        _edit(connection, EDITED, also_hash=False)
        _edit(connection, REHASHED, also_hash=True)
    with Site(database) as running:
        yield running


def _edit(connection: sqlite3.Connection, event_id: str, *, also_hash: bool) -> None:
    key = bytes.fromhex(event_id.replace("-", ""))
    (body,) = connection.execute(
        "SELECT body FROM muniment_events WHERE event_id = ?", (key,)
    ).fetchone()
    edited = body.replace('"outcome":"denied"', '"outcome":"success"')
    assert edited != body
    connection.execute("UPDATE muniment_events SET body = ? WHERE event_id = ?", (edited, key))
    if also_hash:
        connection.execute(
            "UPDATE muniment_events SET leaf_hash = ? WHERE event_id = ?",
            (leaf_hash(edited.encode()), key),
        )


def _verified(visits: Visits, site: Site, event_id: str) -> Page:
    """The page of an event, when its reader has asked for proof."""
    page = visits.page(site.url, cookie=site.cookie(HOSTILE))
    page.goto(f"/events/{event_id}")
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", FINAL)
    return page


def test_an_edited_event_fails(visits: Visits, tampered: Site) -> None:
    """Its hash is not the one in the trail."""
    page = _verified(visits, tampered, EDITED)
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "fails")


def test_an_edited_event_fails_even_with_its_hash_edited(visits: Visits, tampered: Site) -> None:
    """Its hash does not lead to the root that was signed."""
    page = _verified(visits, tampered, REHASHED)
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "fails")


def test_an_event_beside_them_holds(visits: Visits, tampered: Site) -> None:
    """What nobody touched is still proved, under the same root."""
    page = _verified(visits, tampered, INTACT)
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "holds")
