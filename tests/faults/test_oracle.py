"""The judge of the fault tests, judged: it must see what they are to find."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from muniment import AuditLog, Event
from tests.faults.oracle import Oracle, Verdict
from tests.faults.tally import Tally

_SUBMITTED = {("r", 0), ("r", 1)}


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AuditLog]:
    """An open log."""
    async with AuditLog.open(log_url) as log:
        yield log


def _event(n: int) -> Event:
    return Event(action="tick", tenant_id="acme", details={"round": "r", "n": n})


async def test_what_is_stored_as_it_should_be_is_clean(log: AuditLog) -> None:
    """Each acknowledged event is there; one that was submitted and not acknowledged may be."""
    told = [(await log.record(_event(0))).event_id]
    await log.record(_event(1))
    assert await Oracle(log.store).verdict(told, _SUBMITTED) == Verdict(acknowledged=1)


async def test_an_acknowledged_event_that_is_not_there_is_missing(log: AuditLog) -> None:
    """Its event_id is named."""
    told = [(await log.record(_event(0))).event_id, _event(1).event_id]
    verdict = await Oracle(log.store, patience=0).verdict(told, _SUBMITTED)
    assert verdict == Verdict(acknowledged=2, missing=(told[1],))


async def test_one_submission_under_two_ids_is_doubled(log: AuditLog) -> None:
    """The id of the second is named."""
    told = [(await log.record(_event(0))).event_id for _ in range(2)]
    verdict = await Oracle(log.store).verdict(told, _SUBMITTED)
    assert verdict == Verdict(acknowledged=2, doubled=(told[1],))


async def test_an_event_that_nobody_submitted_is_stray(log: AuditLog) -> None:
    """Its event_id is named, though somebody acknowledged it."""
    told = [(await log.record(_event(n))).event_id for n in range(3)]
    verdict = await Oracle(log.store).verdict(told, _SUBMITTED)
    assert verdict == Verdict(acknowledged=3, stray=(told[2],))


def test_a_verdict_that_is_not_clean_fails_and_is_counted() -> None:
    """Each event is named in the failure and stands in the table."""
    tally = Tally()
    tally.add("SIGKILL", "sqlite:///audit.db", Verdict(acknowledged=1_000), rounds=3)
    with pytest.raises(AssertionError, match=r"1 lost \(a\), 2 doubled \(b, c\)"):
        tally.add("SIGKILL", "sqlite", Verdict(acknowledged=5, missing=("a",), doubled=("b", "c")))
    rows = [line.split() for line in tally.lines()]
    assert rows[1:] == [
        ["SIGKILL", "[sqlite]", "4", "1,005", "1", "2", "0"],
        ["total", "4", "1,005", "1", "2", "0"],
    ]
