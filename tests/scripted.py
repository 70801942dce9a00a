"""A store in memory that does what a test tells it, and waiting for what happens elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from muniment import AuditLog, Event
from muniment.stores.base import Sealed, StoredEvent

LONG: Final = 60.0
"""Seconds within which whatever a test waits for has happened, however slow the machine is."""


class ScriptedStore:
    """Keeps what is appended, unless `before` raises, or returns an event to wait for.

    `calls` are the sizes of the batches that it was given.
    """

    def __init__(self) -> None:
        self.kept: list[Sealed] = []
        self.calls: list[int] = []
        self.before: Callable[[Sequence[Sealed]], object] = lambda _: None

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        """Note the call, do what the test wants, and keep the events."""
        self.calls.append(len(batch))
        waited_for = self.before(batch)
        if isinstance(waited_for, asyncio.Event):
            await waited_for.wait()
        self.kept += batch
        return {}


def raising(error: Exception) -> Callable[[Any], None]:
    """A function that raises `error`, whatever it is given."""

    def fail(_: object) -> None:
        raise error

    return fail


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; raises `TimeoutError` if it never does."""
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 - there is no event for what happens in threads
            await asyncio.sleep(0.002)


async def tailed(log: AuditLog, count: int, **given: Any) -> list[Event]:
    """The next so many events of a tail.

    One that doesn't follow may end before them: a transaction of the log's own holds up what comes
    behind it in PostgreSQL, for as long as it takes.
    """
    found: list[Event] = []
    async with asyncio.timeout(LONG):
        async for event in log.tail(**given):
            found.append(event)
            if len(found) == count:
                break
    return found
