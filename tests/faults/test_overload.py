"""Ten times what the store takes, for a while: memory, the event loop, and what becomes of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from asyncio.subprocess import PIPE
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muniment.stores import open_store
from tests.faults.oracle import Submission, oracle_of, read_on
from tests.faults.overloaded_process import TASKS, Report
from tests.faults.tally import Rounds, Tally

pytestmark = pytest.mark.timeout(600)

_ROOT = Path(__file__).parents[2]
_RATE = 1_000
"""Events a second that the store takes."""
_MOST_MEMORY = 200 * 10**6
_A_MILLISECOND = timedelta(milliseconds=1)
_FEW = 500
"""So few in a batch that there is room in the queue again and again."""
_RESPONSIVE = 1.0
"""Seconds; a loop that waits for the store or the disk is held up for longer."""


async def _overloaded(url: str, seconds: int, *, waits: bool = False, **options: Any) -> Report:
    """Drive a process at ten times what its store takes."""
    settings = {"url": url, "seconds": seconds, "rate": _RATE, "waits": waits, "options": options}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.overloaded_process", json.dumps(settings)),
        stdout=PIPE,
        cwd=_ROOT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return msgspec.json.decode(output, type=Report)


def _submitted(report: Report) -> set[Submission]:
    return {("overload", n) for n in range(report.submitted)}


def _note(tally: Tally, policy: str, seconds: int, report: Report) -> None:
    tally.note(
        f"ten times overload for {seconds} s, {policy}: {report.submitted:,} events, "
        f"peak {report.peak / 10**6:.0f} MB, longest tick {report.longest_tick * 1e3:.0f} ms, "
        f"longest emit {report.longest_emit * 1e3:.0f} ms"
    )


async def test_what_overflows_the_queue_goes_to_the_spool(
    sqlite_url: str, rounds: Rounds, tally: Tally
) -> None:
    """Every emitted event is stored in the end; memory stays bounded, and the loop free."""
    seconds = rounds(5, 60)
    report = await _overloaded(sqlite_url, seconds, overflow="spool")
    async with oracle_of(sqlite_url) as oracle:
        verdict = await oracle.verdict_on_all(_submitted(report))

    _note(tally, "spool", seconds, report)
    tally.add("ten times overload: spool", "sqlite", verdict)
    assert report.counts["spooled"] > 0
    assert (report.counts["dropped"], oracle.losses) == (0, [])
    assert report.peak <= _MOST_MEMORY
    assert max(report.longest_emit, report.longest_tick) < _RESPONSIVE


async def test_what_overflows_the_queue_is_dropped_and_counted(
    sqlite_url: str, rounds: Rounds, tally: Tally
) -> None:
    """`audit.loss` events say how many events aren't stored, and of which time; the others are."""
    seconds = rounds(5, 60)
    report = await _overloaded(sqlite_url, seconds, overflow="drop", max_batch=_FEW)
    submitted = _submitted(report)
    async with oracle_of(sqlite_url) as oracle:
        await oracle.look()
        verdict = await oracle.verdict(oracle.event_ids, submitted)

    _note(tally, "drop", seconds, report)
    tally.add("ten times overload: drop and count", "sqlite", verdict)
    losses = [loss["details"] for loss in oracle.losses]
    dropped = sum(loss["count"] for loss in losses)
    assert 0 < dropped == report.counts["dropped"] == len(submitted - set(oracle.submissions))
    await _expect_range(
        sqlite_url,
        first=min(datetime.fromisoformat(loss["first_occurred_at"]) for loss in losses),
        last=max(datetime.fromisoformat(loss["last_occurred_at"]) for loss in losses),
    )
    assert report.counts["spooled"] == 0
    assert report.peak <= _MOST_MEMORY
    assert max(report.longest_emit, report.longest_tick) < _RESPONSIVE


async def _expect_range(url: str, *, first: datetime, last: datetime) -> None:
    """The first and the last lost event lie where the times of those stored around them say."""
    store = open_store(url)
    await store.open()
    bodies = [msgspec.json.decode(item.stored.body or "") async for item in read_on(store, None)]
    await store.close()
    ticks = [body for body in bodies if body["action"] == "tick"]
    times = {b["details"]["n"]: datetime.fromisoformat(b["occurred_at"]) for b in ticks}
    gaps = [(a, b) for a, b in itertools.pairwise(sorted(times)) if b - a > 1]
    (before, after), latest = gaps[0], times[max(times)]

    assert times[before] - _A_MILLISECOND <= first <= times[after]
    # The last one may have come behind all that is stored.
    assert times[gaps[-1][0]] - _A_MILLISECOND <= last
    assert last <= times[gaps[-1][1]] or last >= latest - _A_MILLISECOND


async def test_who_awaits_record_waits_for_the_store(
    sqlite_url: str, rounds: Rounds, tally: Tally
) -> None:
    """Callers are held back to what the store takes; nothing is spooled or dropped."""
    seconds = rounds(5, 60)
    report = await _overloaded(sqlite_url, seconds, waits=True)
    async with oracle_of(sqlite_url) as oracle:
        verdict = await oracle.verdict_on_all(_submitted(report))

    _note(tally, "wait", seconds, report)
    tally.add("ten times overload: wait", "sqlite", verdict)
    assert report.submitted <= _RATE * (seconds + 1) + 2 * TASKS
    assert report.counts["stored"] == report.submitted
    assert (report.counts["spooled"], report.counts["dropped"], oracle.losses) == (0, 0, [])
    assert report.peak <= _MOST_MEMORY
    assert report.longest_tick < _RESPONSIVE
