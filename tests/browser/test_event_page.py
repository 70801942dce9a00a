"""The page of one event, and the proof that its reader's browser checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from muniment.demo import day
from muniment.keys import SigningKey
from tests.browser.site import Site, query
from tests.browser.visiting import Visit

REFUSED = next(e for e in day() if e.action == "document.export")
"""An agent was refused to export for somebody else."""
GRANTED = next(e for e in day() if e.tenant_id == "nordlicht" and e.action == "role_assign")


@pytest.fixture
def page(visit: Visit) -> Page:
    """The page of the refusal."""
    return visit(f"/events/{REFUSED.event_id}")


def test_the_sentence_says_who_did_what_for_whom(page: Page) -> None:
    """The heading names the agent, what it tried, and on whose behalf."""
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("مساعد الدروس was denied")
    expect(heading).to_contain_text("students")
    expect(heading).to_contain_text("for ليلى حداد")
    expect(page.get_by_text("exports need an approval").first).to_be_visible()


def test_the_chain_shows_who_acts_through_whom(page: Page) -> None:
    """The person stands first, the agent that acted last."""
    links = page.get_by_label("Who acted, and for whom").get_by_role("listitem")
    expect(links).to_have_count(2)
    expect(links.first).to_contain_text("ليلى حداد")
    expect(links.last).to_contain_text("مساعد الدروس")


def test_changes_show_before_and_after(visit: Visit) -> None:
    """What a change took away is marked as deleted, what it brought as inserted."""
    page = visit(f"/events/{GRANTED.event_id}")
    changes = page.get_by_label("Changes", exact=True)
    expect(changes).to_contain_text("roles")
    expect(changes).to_contain_text("operator")


def test_its_run_is_a_timeline_that_leads_on(page: Page) -> None:
    """The other events of its run stand in their order, and each leads to its page."""
    around = page.get_by_label("What else happened")
    expect(around.locator("[aria-current]").first).to_contain_text("students")
    around.get_by_role("link").filter(has_text="grades").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("grades")


def test_an_id_finds_the_events_that_share_it(page: Page) -> None:
    """The link beside a field searches the trail for its value."""
    page.get_by_role("link", name="Find events with this Run").click()
    expect(page.get_by_label("Search the trail")).to_have_value("run:run-intruder")


def test_it_is_copied_as_it_is_stored(visit: Visit, site: Site) -> None:
    """The clipboard holds the stored body, as JSON."""
    page = visit(f"/events/{REFUSED.event_id}", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as JSON").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    copied = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    (stored,) = site.events(tenant_id="waha", run_id="run-intruder", target_id="students")
    assert copied == stored


def test_the_browser_proves_it(page: Page) -> None:
    """All four steps hold, by the key that the service gives."""
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "holds")
    expect(page.locator("[data-steps] [data-result='holds']")).to_have_count(4)


def test_a_key_that_the_reader_trusts_decides(page: Page) -> None:
    """With another key than the one that signed, the last step fails; without it, it holds."""
    other = SigningKey.from_seed("audit.example/log", b"\7" * 32).verifier.text()
    page.get_by_text("Use a key that you trust").click()
    page.locator("#own-key").fill(other)
    page.locator("form[data-own-key] button[type='submit']").click()
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "fails")
    page.locator("[data-forget]").click()
    page.get_by_role("button", name="Verify in this browser").click()
    expect(page.locator("[data-verdict]")).to_have_attribute("data-result", "holds")


def test_the_proof_is_a_file(page: Page, tmp_path: Path) -> None:
    """It is downloaded as a C2SP tlog-proof."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the proof").click()
    path = tmp_path / "proof"
    download.value.save_as(path)
    assert path.read_text().startswith("c2sp.org/tlog-proof@v1\n")


def test_from_event_to_event_within_the_search(visit: Visit) -> None:
    """Older and newer lead through what the search found, and back to it."""
    page = visit("/" + query(tenant_id="waha", q="action:document.export"))
    page.locator("[data-events] .told").first.click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("payments")
    page.get_by_role("link", name="Older").click()
    expect(heading).to_contain_text("grades")
    page.get_by_role("link", name="Newer").click()
    expect(heading).to_contain_text("payments")
    page.get_by_role("link", name="Back to the trail").click()
    expect(page.get_by_label("Search the trail")).to_have_value("action:document.export")
