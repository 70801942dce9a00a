"""Runs a recording process, and keeps what it says: that survives whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.oracle import Submission

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 100.0
_PAUSE: Final = 0.002
_CHUNK: Final = 2**20


class Recording:
    """What a process submitted, and where it was told that its events are: "store" or "spool"."""

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process
        self._reading = asyncio.create_task(self._read())
        self.submitted: set[Submission] = set()
        self.told: dict[str, str] = {}
        self.stats: dict[str, Any] = {}

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return not self._reading.done()

    def told_in(self, place: str) -> list[str]:
        """The event_ids of what is there."""
        return [event_id for event_id, told in self.told.items() if told == place]

    async def acknowledges(self, count: int, place: str | None = None) -> None:
        """Return once so many more events are acknowledged, in `place` if that is given."""
        goal = self._count(place) + count
        async with asyncio.timeout(_PATIENCE):
            while self._count(place) < goal:
                assert self.runs, "the process ended by itself"
                await asyncio.sleep(_PAUSE)

    async def kill(self) -> None:
        """End it by SIGKILL; what it had said by then is read to the end."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def finish(self) -> None:
        """Have it stop recording, empty its spool and end; leaves its `stats`."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE):
            await self._reading
            assert await self._process.wait() == 0
        assert self.stats

    def _count(self, place: str | None) -> int:
        return len(self.told) if place is None else len(self.told_in(place))

    async def _read(self) -> None:
        """The last line may be torn: then it says nothing."""
        assert self._process.stdout is not None
        torn = ""
        while data := await self._process.stdout.read(_CHUNK):
            *lines, torn = (torn + data.decode()).split("\n")
            for line in lines:
                self._note(*line.split(" ", 1))

    def _note(self, kind: str, rest: str) -> None:
        if kind == "submit":
            self.submitted.add((self._name, int(rest)))
        elif kind == "told":
            event_id, place = rest.split()
            self.told[event_id] = place
        else:
            self.stats = json.loads(rest)


@asynccontextmanager
async def recording(
    url: str, name: str, *, tasks: int = 16, **options: Any
) -> AsyncIterator[Recording]:
    """A process that records from so many tasks; killed at the end of the block if it still runs.

    `name` is the round in the details of its events. `options` are those of `AuditLog.open`.
    """
    given = {key: str(o) if isinstance(o, Path) else o for key, o in options.items()}
    settings = {"url": url, "round": name, "tasks": tasks, "options": given}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.recording_process", json.dumps(settings)),
        stdin=PIPE,
        stdout=PIPE,
        cwd=_ROOT,
    )
    running = Recording(name, process)
    try:
        yield running
    finally:
        await running.kill()
