"""A process that is asked for ten times what its store takes, and says how that went.

Usage: python -m tests.faults.overloaded_process SETTINGS     (JSON; see `test_overload`)

The store is a real one, slowed to a known rate, or to a tenth of what is emitted, however slowly
that goes on a busy machine; in the end it takes what it can. Writes one JSON object when all that
was to be kept is in the store.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec

from muniment import AuditLog
from muniment.stores import open_store
from tests.faults.hindered import SlowStore

_PAUSE: Final = 0.002
_BURST: Final = 100
TASKS: Final = 2_000


class Report(msgspec.Struct, kw_only=True):
    """How many events were submitted, and what the log counts of them; times are in seconds.

    `longest_emit` is that of a call, `longest_tick` how long another task was ever kept waiting;
    `peak` is the most memory that was ever resident, in bytes.
    """

    submitted: int = 0
    longest_emit: float = 0.0
    longest_tick: float = 0.0
    peak: int = 0
    counts: dict[str, int] = {}


async def main(settings: dict[str, Any]) -> None:
    """Drive the log for a while, then let the store catch up."""
    rate, seconds = settings["rate"], settings["seconds"]
    report = Report()
    store = SlowStore(open_store(settings["url"]))
    # The store isn't late, it is overrun: what becomes of that is not for the deadline to say.
    async with AuditLog(store, deadline=seconds + 100.0, **settings["options"]) as log:
        ticking = asyncio.create_task(_tick(report))
        if settings["waits"]:
            store.rate = rate
            await _record(log, report, seconds)
        else:
            store.may_take = lambda events: 10 * events <= report.submitted
            await _emit(log, report, 10 * rate, 10 * rate * seconds)
        store.rate, store.may_take = None, lambda _: True
        await log.flush()
        while (stats := await log.stats())["queue"]["spooling"]:  # noqa: ASYNC110 - as a user would
            await asyncio.sleep(_PAUSE)
        ticking.cancel()
    report.counts = stats["recorded"]
    report.peak = _peak()
    sys.stdout.buffer.write(msgspec.json.encode(report))


async def _tick(report: Report) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(_PAUSE)
        now = time.monotonic()
        report.longest_tick = max(report.longest_tick, now - last - _PAUSE)
        last = now


async def _emit(log: AuditLog, report: Report, rate: int, total: int) -> None:
    """Emit so many, at a rate if we come to it; nobody waits."""
    started = time.monotonic()
    while report.submitted < total:
        passed = time.monotonic() - started
        due = min(int(rate * passed), report.submitted + _BURST, total)
        for n in range(report.submitted, due):
            before = time.perf_counter()
            log.emit("tick", tenant_id="acme", details={"round": "overload", "n": n})
            report.longest_emit = max(report.longest_emit, time.perf_counter() - before)
        report.submitted = due
        await asyncio.sleep(_PAUSE)


async def _record(log: AuditLog, report: Report, seconds: float) -> None:
    """Record from many tasks, each as soon as the one before is answered."""
    numbers = count()
    until = time.monotonic() + seconds

    async def record() -> None:
        while time.monotonic() < until:
            details = {"round": "overload", "n": next(numbers)}
            report.submitted += 1
            await log.record("tick", tenant_id="acme", details=details)

    await asyncio.gather(*(record() for _ in range(TASKS)))


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
