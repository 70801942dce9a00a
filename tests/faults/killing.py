"""Kills a recording process, and holds the store against what it had acknowledged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec

from muniment.stores.base import Sequenced, Store

_ROOT = Path(__file__).parent.parent.parent
_TASKS = 16
_PATIENCE = 60
_PAUSE = 0.05


def acknowledged_until_killed(url: str, name: str, *, least: int, random: Random) -> list[str]:
    """The event_ids that a recording process had acknowledged when SIGKILL hit it, mid-load."""
    arguments = [sys.executable, "-m", "tests.faults.recording_process", url, name, str(_TASKS)]
    wanted = least + random.randrange(least)
    lines: list[str] = []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if len(lines) == wanted:
                    process.kill()
        finally:
            process.kill()
    # The last line may be torn: then it was no acknowledgement.
    return [line.split()[0] for line in lines if line.endswith("store\n")]


async def read_on(store: Store, after: str | None) -> AsyncIterator[Sequenced]:
    """Everything behind a position, in the order of recording."""
    while page := await store.read(after, 2000):
        for item in page:
            yield item
        after = page[-1].position


class Oracle:
    """What a store holds, against what was acknowledged."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._position: str | None = None
        self._ids: set[str] = set()
        self._submitted: set[tuple[str, int]] = set()

    async def check(self, acknowledged: list[str]) -> None:
        """None missing, none doubled."""
        async with asyncio.timeout(_PATIENCE):
            await self._read_on()
            while not self._ids.issuperset(acknowledged):
                # A transaction that the killed process left running holds up what comes behind it.
                await asyncio.sleep(_PAUSE)
                await self._read_on()

    async def _read_on(self) -> None:
        async for item in read_on(self._store, self._position):
            self._position = item.position
            assert item.stored.body is not None
            details = msgspec.json.decode(item.stored.body)["details"]
            submitted = (details["round"], details["n"])
            assert item.stored.event_id not in self._ids
            assert submitted not in self._submitted
            self._ids.add(item.stored.event_id)
            self._submitted.add(submitted)
