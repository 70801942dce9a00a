"""A process that records as fast as it can, and tells what it submits and where each event is.

Usage: python -m tests.faults.recording_process SETTINGS     (JSON; see `recording.recording`)

Writes a line "submit N" before it records an event, "told EVENT_ID PLACE" once `record` has
returned. At the end of its standard input it stops recording; without tasks it does at once. Then
it waits until its spool is empty, writes "stats JSON", and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import count
from typing import Any, Final

from muniment import AuditLog, Event

_PATIENCE: Final = 100.0
_PAUSE: Final = 0.02


async def main(settings: dict[str, Any]) -> None:
    """Record from many tasks at once. What is written to the pipe outlives this process."""
    numbers = count()
    async with AuditLog.open(settings["url"], **settings["options"]) as log:
        ending = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, ending.set)

        async def record() -> None:
            while not ending.is_set():
                n = next(numbers)
                details = {"round": settings["round"], "n": n}
                event = Event(action="tick", tenant_id="acme", details=details)
                _say("submit", n)
                receipt = await log.record(event)
                _say("told", receipt.event_id, receipt.durable_in)

        await asyncio.gather(*(record() for _ in range(settings["tasks"])))
        asyncio.get_running_loop().remove_reader(sys.stdin)
        _say("stats", json.dumps(await _drained(log)))


async def _drained(log: AuditLog) -> dict[str, Any]:
    """The stats of when nothing is left in the spool."""
    async with asyncio.timeout(_PATIENCE):
        stats = await log.stats()
        while stats["queue"]["spooling"]:
            await asyncio.sleep(_PAUSE)
            stats = await log.stats()
        return stats


def _say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
