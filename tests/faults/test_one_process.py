"""What happens within one process: cancelled tasks, loops that end, forks, clocks that jump."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from muniment import AuditLog, Event, Receipt
from muniment.sealing import utc_now
from tests.faults.oracle import Submission, oracle_of
from tests.faults.tally import Rounds, Tally
from tests.scripted import LONG, tailed

pytestmark = pytest.mark.timeout(600)

_ROOT = Path(__file__).parents[2]
_TASKS = 50
_AN_HOUR = timedelta(hours=1)


def _event(name: str, n: int) -> Event:
    return Event(action="tick", tenant_id="acme", details={"round": name, "n": n})


def _submissions(name: str, numbers: Iterable[int]) -> set[Submission]:
    return {(name, n) for n in numbers}


# --- cancellation


async def test_a_cancelled_record_is_stored_at_most_once_and_costs_no_other(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """Tasks are cancelled at any moment: what the others recorded is there, theirs not twice."""
    random = Random(5)  # noqa: S311 - moments, not secrets
    acknowledged: list[str] = []
    submitted: set[Submission] = set()
    times = rounds(10, 200)
    async with AuditLog.open(log_url, spool_dir=tmp_path / "spool") as log:
        for turn in range(times):
            events = [_event(f"turn {turn}", n) for n in range(_TASKS)]
            tasks = [asyncio.create_task(log.record(event)) for event in events]
            cancelled = random.sample(tasks, _TASKS // 2)
            for task in cancelled:
                for _ in range(random.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            receipts = await asyncio.gather(*tasks, return_exceptions=True)
            acknowledged += [r.event_id for r in receipts if not isinstance(r, BaseException)]
            submitted |= _submissions(f"turn {turn}", range(_TASKS))
    assert len(acknowledged) >= times * _TASKS // 2

    async with oracle_of(log_url) as oracle:
        verdict = await oracle.verdict(acknowledged, submitted)
    tally.add("record cancelled", log_url, verdict, times)


# --- the end of the loop, and forks


async def _unruly(how: str, url: str, spool: Path, name: str) -> list[list[str]]:
    """What a process says that does with its log what it should not."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.unruly_process", how, url, spool, name),
        stdout=PIPE,
        cwd=_ROOT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [line.split("\t") for line in output.decode().splitlines()]


def _told(lines: list[list[str]]) -> list[str]:
    return [words[0] for kind, *words in lines if kind == "told"]


def _submitted(lines: list[list[str]]) -> set[Submission]:
    return {(words[0], int(words[1])) for kind, *words in lines if kind == "submitted"}


def _refused(lines: list[list[str]]) -> list[str]:
    return [words[0] for kind, *words in lines if kind == "refused"]


async def test_a_loop_that_ends_under_a_log_loses_nothing_that_was_queued(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """A process that never closed its log leaves all of it in the store, or to the next one."""
    submitted: set[Submission] = set()
    times = rounds(2, 20)
    for n in range(times):
        lines = await _unruly("leave", log_url, tmp_path / "spool", f"leave {n}")
        assert _refused(lines) == ["LogClosed"]
        submitted |= _submitted(lines)
        async with AuditLog.open(log_url, spool_dir=tmp_path / "spool") as following:
            await _drained(following)
    async with oracle_of(log_url) as oracle:
        verdict = await oracle.verdict_on_all(submitted)
    tally.add("event loop closed", log_url, verdict, times)


async def test_forks_of_a_recording_process_cost_nothing(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """Children may not use their parent's log; in their own they record, and so does the parent."""
    acknowledged: list[str] = []
    submitted: set[Submission] = set()
    times = rounds(2, 20)
    for n in range(times):
        lines = await _unruly("fork", log_url, tmp_path / "spool", f"fork {n}")
        assert _refused(lines) == ["WrongProcess"] * 3
        acknowledged += _told(lines)
        submitted |= _submitted(lines)
    assert len(acknowledged) == len(submitted)

    async with AuditLog.open(log_url, spool_dir=tmp_path / "spool") as following:
        await _drained(following)  # if one of them had a store that was late
    async with oracle_of(log_url) as oracle:
        verdict = await oracle.verdict(acknowledged, submitted)
    tally.add("fork", log_url, verdict, times)


async def _drained(log: AuditLog) -> None:
    async with asyncio.timeout(LONG):
        while (await log.stats())["queue"]["spooling"]:  # noqa: ASYNC110 - as a user would
            await asyncio.sleep(0.01)


# --- clocks


class _Clock:
    """The system's clock, off by as much as a test says."""

    def __init__(self) -> None:
        self.off = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.off


async def test_a_clock_that_jumps_costs_nothing(log_url: str, tmp_path: Path, tally: Tally) -> None:
    """When it goes back an hour and forth again, ids stay unique, and tail keeps to the order."""
    clock = _Clock()
    receipts = []
    async with AuditLog.open(log_url, spool_dir=tmp_path / "spool", clock=clock) as log:
        for n in range(300):
            clock.off = -_AN_HOUR if 100 <= n < 200 else timedelta()
            receipts.append(await _record(log, n))
        await log.flush()
        following = await tailed(log, 299, after=receipts[0].event_id)
        found = await _found(log, since=clock() - 2 * _AN_HOUR)
        jumped = await _found(log, until=clock() - _AN_HOUR / 2)
    async with oracle_of(log_url) as oracle:
        acknowledged = [receipt.event_id for receipt in receipts]
        verdict = await oracle.verdict(acknowledged, _submissions("clock", range(300)))

    tally.add("clock jumps back an hour", log_url, verdict)
    assert len(set(acknowledged)) == 300
    assert [event.details["n"] for event in following] == list(range(1, 300))
    assert found == [*range(100, 200), *range(100), *range(200, 300)]
    assert jumped == list(range(100, 200))


async def _record(log: AuditLog, n: int) -> Receipt:
    return await log.record("tick", tenant_id="acme", details={"round": "clock", "n": n})


async def _found(log: AuditLog, **filters: Any) -> list[int]:
    """All that a search finds, the oldest first, page by page."""
    numbers: list[int] = []
    cursor = None
    while True:
        page = await log.search(tenant_id="acme", order="oldest", cursor=cursor, **filters)
        numbers += [event.details["n"] for event in page.events]
        cursor = page.next_cursor
        if cursor is None:
            return numbers
