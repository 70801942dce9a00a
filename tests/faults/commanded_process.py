"""A process that records what it is told to, and tells what became of each event once it knows.

Usage: python -m tests.faults.commanded_process SETTINGS     (JSON; see `commanding.commanded`)

Reads commands from its standard input, one JSON array a line, and ends with it. Writes one JSON
array a line: ["told", event_id, place] for each event, ["done", result] for each command.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import resource
import sys
import tempfile
import time
from typing import Any

from muniment import AuditLog, Event
from muniment.errors import MunimentError
from muniment.stores import open_store
from tests.faults.hindered import EveryThirdFails


async def main(settings: dict[str, Any]) -> None:
    """Open a log, and do what comes in."""
    if settings["without_root"] and os.geteuid() == 0:
        await _give_up_root()
    store = open_store(settings["url"], **settings["store_options"])
    if settings["every_third_fails"]:
        store = EveryThirdFails(store)
    async with AuditLog(store, **settings["options"]) as log:
        _say("done", os.getpid())
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, *arguments = json.loads(line)
            _say("done", await _COMMANDS[name](log, *arguments))


async def _record(log: AuditLog, name: str, count: int, tasks: int) -> float:
    """Record so many events from so many tasks; returns the seconds that the slowest took."""
    numbers = iter(range(count))
    longest = 0.0

    async def record() -> None:
        nonlocal longest
        for n in numbers:
            event = Event(action="tick", tenant_id="acme", details={"round": name, "n": n})
            started = time.monotonic()
            try:
                place: str = (await log.record(event)).durable_in
            except MunimentError as error:
                place = type(error).__name__
            longest = max(longest, time.monotonic() - started)
            _say("told", event.event_id, place)

    await asyncio.gather(*(record() for _ in range(tasks)))
    return longest


async def _limit(_: AuditLog, size: int | None) -> None:
    """Let no file of this process grow beyond so many bytes."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if size is None else size, most))


async def _stats(log: AuditLog) -> dict[str, Any]:
    return await log.stats()


_COMMANDS: dict[str, Any] = {"record": _record, "limit": _limit, "stats": _stats}


async def _give_up_root() -> None:
    """Become somebody whom permissions bind; only once all is imported that root alone may read."""
    with tempfile.TemporaryDirectory() as directory:
        async with AuditLog.open(f"sqlite:///{directory}/audit.db") as log:
            await log.record("tick", tenant_id="acme")
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def _say(*words: Any) -> None:
    """What is written to the pipe outlives this process."""
    os.write(1, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
