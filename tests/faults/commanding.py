"""Commands a recording process, and keeps what it acknowledged."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.oracle import Oracle, Submission, Verdict, oracle_of

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 100.0
_PAUSE: Final = 0.02
_DURABLE: Final = ("store", "spool")


class Commanded:
    """A recording process. `told` says of each event_id where it is: "store" or "spool".

    Or which error its caller got.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.submitted: set[Submission] = set()
        self.told: dict[str, str] = {}

    @property
    def acknowledged(self) -> list[str]:
        """The events that are to be in the store in the end."""
        return [event_id for event_id, place in self.told.items() if place in _DURABLE]

    @property
    def lost(self) -> list[str]:
        """The events whose callers were told that nothing could keep them."""
        return [event_id for event_id, place in self.told.items() if place == "NotDurable"]

    async def record(self, count: int, *, tasks: int = 4) -> tuple[list[str], float]:
        """Record so many events; where each is, and the seconds that the slowest took."""
        known = len(self.told)
        name = f"{self._process.pid}-{known}"
        self.submitted.update((name, n) for n in range(count))
        longest = await self.command("record", name, count, tasks)
        return list(self.told.values())[known:], longest

    async def limit(self, size: int | None) -> None:
        """Let none of its files grow beyond so many bytes."""
        await self.command("limit", size)

    async def stats(self) -> dict[str, Any]:
        """What `AuditLog.stats` says there."""
        stats: dict[str, Any] = await self.command("stats")
        return stats

    async def drained(self) -> dict[str, Any]:
        """Wait until its spool is empty; the stats of then."""
        async with asyncio.timeout(_PATIENCE):
            while (stats := await self.stats())["queue"]["spooling"]:  # noqa: ASYNC110 - a process
                await asyncio.sleep(_PAUSE)
        return stats

    async def end(self) -> None:
        """Let it close its log and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE):
            assert await self._process.wait() == 0

    async def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        await self._process.wait()

    async def command(self, *words: Any) -> Any:
        """Have a command done; its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        """The result of the command that is being done."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while line := await self._process.stdout.readline():
                kind, *words = json.loads(line)
                if kind == "done":
                    return words[0]
                self.told[words[0]] = words[1]
        msg = f"the process ended: {await self._process.wait()}"
        raise AssertionError(msg)


@asynccontextmanager
async def commanded(
    url: str,
    *,
    without_root: bool = False,
    every_third_fails: bool = False,
    store_options: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Commanded]:
    """A recording process with an open log; killed at the end of the block if it still runs.

    `options` are those of `AuditLog`. If `without_root`, file permissions bind it, whoever runs the
    tests.
    """
    settings = {
        "url": url,
        "without_root": without_root,
        "every_third_fails": every_third_fails,
        "store_options": store_options or {},
        "options": {name: str(o) if isinstance(o, Path) else o for name, o in options.items()},
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.commanded_process", json.dumps(settings)),
        stdin=PIPE,
        stdout=PIPE,
        cwd=_ROOT,
    )
    running = Commanded(process)
    try:
        await running.answer()
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


async def judged(url: str, *processes: Commanded) -> tuple[Verdict, Oracle]:
    """What a store holds, against what the processes said."""
    acknowledged = [event_id for process in processes for event_id in process.acknowledged]
    submitted = set().union(*(process.submitted for process in processes))
    async with oracle_of(url) as oracle:
        return await oracle.verdict(acknowledged, submitted), oracle
