"""A process that does with a running log what no process should, and tells what it recorded.

Usage: python -m tests.faults.unruly_process HOW URL SPOOL ROUND     (HOW is "leave" or "fork")

Writes lines: "submitted ROUND N" before an event is handed over, "told EVENT_ID" once it is
durable, and "refused ERROR" for a call that the log refuses.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from random import Random
from typing import Final

from muniment import AuditLog, Event
from muniment.errors import LogClosed

_EVENTS: Final = 200
_TASKS: Final = 8
_FORKS: Final = 3


async def _leave(url: str, spool: str, name: str) -> AuditLog:
    """Return from the event loop's last coroutine without closing the log."""
    log = await AuditLog.open(url, spool_dir=spool)
    await _record_in_tasks(log, name)
    for n in range(_EVENTS, 10 * _EVENTS):
        _say("submitted", name, n)
        log.emit(_event(name, n))
    for _ in range(Random(name).randrange(30)):  # noqa: S311 - a moment, not a secret
        await asyncio.sleep(0)
    return log


async def _fork(url: str, spool: str, name: str) -> None:
    """Fork while eight tasks record; each child records into a log of its own."""
    async with AuditLog.open(url, spool_dir=spool) as log:
        recording = asyncio.create_task(_record_in_tasks(log, name))
        children = []
        for n in range(_FORKS):
            await _record(log, f"{name} beside", range(n * 10, n * 10 + 10))
            child = os.fork()
            if not child:
                _be_child(log, url, spool, f"{name} child {n}")
            children.append(child)
        for child in children:
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0
        await recording


def _be_child(log: AuditLog, url: str, spool: str, name: str) -> None:
    status = 1
    try:
        _expect_refusal(log)
        asyncio.run(_record_anew(url, spool, name))
        status = 0
    finally:
        os._exit(status)


async def _record_anew(url: str, spool: str, name: str) -> None:
    async with AuditLog.open(url, spool_dir=spool) as log:
        await _record(log, name, range(50))


async def _record_in_tasks(log: AuditLog, name: str) -> None:
    parts = (range(n, _EVENTS, _TASKS) for n in range(_TASKS))
    await asyncio.gather(*(_record(log, name, part) for part in parts))


async def _record(log: AuditLog, name: str, numbers: range) -> None:
    for n in numbers:
        _say("submitted", name, n)
        _say("told", (await log.record(_event(name, n))).event_id)


def _expect_refusal(log: AuditLog) -> None:
    try:
        log.emit(_event("refused", 0))
    except LogClosed as error:
        _say("refused", type(error).__name__)


def _event(name: str, n: int) -> Event:
    return Event(action="tick", tenant_id="acme", details={"round": name, "n": n})


def _say(*words: object) -> None:
    os.write(1, "\t".join(map(str, words)).encode() + b"\n")


def main(how: str, *arguments: str) -> None:
    """Do it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
    if how == "fork":
        asyncio.run(_fork(*arguments))
    else:
        _expect_refusal(asyncio.run(_leave(*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
