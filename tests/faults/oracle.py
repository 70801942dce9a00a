"""Holds a store against what processes said: none missing, none doubled, none never submitted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Container, Iterable, KeysView
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from muniment.stores import open_store
from muniment.stores.base import Sequenced, Store

Submission = tuple[str, int]
"""What an event of a recording process carries in its details: the round, and a number in it."""

_PATIENCE: Final = 30.0
_PAUSE: Final = 0.05
_OF_THE_LOG: Final = "audit.loss"


class Verdict(msgspec.Struct, frozen=True):
    """How many events were acknowledged, and the event_ids of those with which something is wrong.

    `missing` were acknowledged and aren't stored, `doubled` are stored and were before, under the
    same event_id or for the same submission under another one, `stray` were never submitted.
    """

    acknowledged: int
    missing: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.doubled or self.stray)


class Oracle:
    """Reads a whole store, what is new of it each time, and judges it.

    What is missing it waits for, up to `patience` seconds: a transaction that a killed process left
    running holds up what comes behind it. `losses` are the bodies of the `audit.loss` events, which
    the log records by itself.
    """

    def __init__(self, store: Store, *, patience: float = _PATIENCE) -> None:
        self._store = store
        self._patience = patience
        self._position: str | None = None
        self._submission_of: dict[str, Submission] = {}
        self._submissions: set[Submission] = set()
        self._doubled: list[str] = []
        self.losses: list[dict[str, Any]] = []

    @property
    def event_ids(self) -> KeysView[str]:
        """What was submitted and is stored, as far as it was read."""
        return self._submission_of.keys()

    @property
    def submissions(self) -> Collection[Submission]:
        """What these events carry."""
        return self._submissions

    async def verdict(
        self, acknowledged: Collection[str], submitted: Container[Submission]
    ) -> Verdict:
        """What became of the acknowledged events, and of all else that is stored."""
        wanted = set(acknowledged)
        await self._look_for(lambda: self.event_ids >= wanted)
        return self._verdict(len(wanted), sorted(wanted - self.event_ids), submitted)

    async def verdict_on_all(self, submitted: Collection[Submission]) -> Verdict:
        """The same, where all that was submitted is to be there, whatever its event_id."""
        wanted = set(submitted)
        await self._look_for(lambda: self._submissions >= wanted)
        missing = [f"{name} {n}" for name, n in sorted(wanted - self._submissions)]
        return self._verdict(len(wanted), missing, wanted)

    def _verdict(
        self, acknowledged: int, missing: Iterable[str], submitted: Container[Submission]
    ) -> Verdict:
        return Verdict(
            acknowledged=acknowledged,
            missing=tuple(missing),
            doubled=tuple(self._doubled),
            stray=tuple(i for i, found in self._submission_of.items() if found not in submitted),
        )

    async def _look_for(self, is_there: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + self._patience
        await self.look()
        while not is_there() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_PAUSE)
            await self.look()

    async def look(self) -> None:
        """Read what is new."""
        async for item in read_on(self._store, self._position):
            self._position = item.position
            assert item.stored.body is not None
            body = msgspec.json.decode(item.stored.body)
            if body["action"] == _OF_THE_LOG:
                self.losses.append(body)
                continue
            event_id = item.stored.event_id
            submission = (body["details"].get("round", ""), body["details"].get("n", -1))
            if event_id in self._submission_of or submission in self._submissions:
                self._doubled.append(event_id)
            self._submission_of[event_id] = submission
            self._submissions.add(submission)


@asynccontextmanager
async def oracle_of(url: str) -> AsyncIterator[Oracle]:
    """An oracle over the store that `url` names."""
    store = open_store(url)
    await store.open()
    try:
        yield Oracle(store)
    finally:
        await store.close()


async def read_on(store: Store, after: str | None) -> AsyncIterator[Sequenced]:
    """Everything behind a position, in the order of recording."""
    while page := await store.read(after, 2000):
        for item in page:
            yield item
        after = page[-1].position
