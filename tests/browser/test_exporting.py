"""What is shown is taken away as a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from playwright.sync_api import Page

from muniment.demo import day
from muniment.evidence import verify_evidence
from tests.browser.site import Site, query
from tests.browser.trail import KEY
from tests.browser.visiting import Visit, Visits

DENIED = query(tenant_id="waha", q="outcome:denied")


def _exported(page: Page, form: str, to: Path) -> Path:
    page.locator("summary", has_text="Export").click()
    with page.expect_download(timeout=30_000) as download:
        page.locator(f"[data-format='{form}']").click()
    download.value.save_as(to)
    return to


def test_json_lines_hold_what_is_shown(visit: Visit, site: Site, tmp_path: Path) -> None:
    """Each line is an event that the search finds, as it is stored, and all of them are there."""
    path = _exported(visit("/" + DENIED), "jsonl", tmp_path / "events.jsonl")
    taken = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    shown = site.events(tenant_id="waha", outcome="denied", limit="500")
    assert taken == shown[::-1]


def test_a_spreadsheet_holds_what_is_shown(visit: Visit, site: Site, tmp_path: Path) -> None:
    """One line an event, under a line of names."""
    path = _exported(visit("/" + DENIED), "csv", tmp_path / "events.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        taken = [line["event_id"] for line in csv.DictReader(file)]
    assert taken == [e["event_id"] for e in site.events(tenant_id="waha", outcome="denied")][::-1]


def test_evidence_proves_what_is_shown(visit: Visit, tmp_path: Path) -> None:
    """The file is verified offline, by the public key alone."""
    path = _exported(visit("/" + DENIED), "evidence", tmp_path / "evidence")
    with path.open("rb") as file:
        found = verify_evidence(file, [KEY.verifier])
    assert found.events > 0


def test_one_event_is_taken_as_evidence(visit: Visit, tmp_path: Path) -> None:
    """The page of an event gives a file that proves it, offline."""
    event = next(e for e in day() if e.action == "document.export")
    page = visit(f"/events/{event.event_id}")
    with page.expect_download(timeout=30_000) as download:
        page.locator("[data-evidence]").click()
    download.value.save_as(tmp_path / "evidence")
    with (tmp_path / "evidence").open("rb") as file:
        assert verify_evidence(file, [KEY.verifier]).events > 0


def test_an_export_is_recorded(visits: Visits, site: Site, tmp_path: Path) -> None:
    """The trail says that somebody took it away, and who."""
    page = visits.page(site.url, cookie=site.cookie("nordlicht"))
    page.goto("/" + query(q="outcome:denied"))
    _exported(page, "jsonl", tmp_path / "events.jsonl")
    (event,) = site.events(tenant_id="nordlicht", action="audit.export")
    assert event["actor"]["id"] == "p1"
