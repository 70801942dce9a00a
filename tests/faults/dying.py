"""Lets a sequencing process end by SIGKILL at one moment of one durable step."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from random import Random
from typing import Any, Final, TypeVar

import asyncpg

from muniment.anchors import directory
from muniment.stores.postgres.trees import PostgresTrees
from muniment.stores.sqlite.trees import SqliteTrees
from muniment.stores.trees import Published, Trees
from muniment.testing import FaultyTrees

_T = TypeVar("_T")

STEPS: Final = ("integrate", "publish", "add_signatures", "mark_anchored")
"""What is one transaction each."""
POINTS: Final = ("before", "midway", "before commit", "in commit", "after")
"""Before anything; behind the first of its writes; before, and while, it commits; as soon as
it has."""
AROUND_THE_LINK: Final = ("before", "after")
"""Of the step "anchor", when a directory's draft gets its name: that is on disk, or not yet."""
ANCHOR: Final = "anchor"

_STATEMENTS: Final = ("execute", "fetch", "fetchrow", "fetchval")
_WRITES: Final = ("INSERT", "UPDATE")
_LONGEST_COMMIT: Final = 0.0006
"""Seconds: about as long as one takes on a disk that is quick."""
_watched: ContextVar[Moment | None] = ContextVar("watched", default=None)


class Moment:
    """When to end: at a point of the `nth` call of a step. Only one such moment comes."""

    def __init__(self, step: str, point: str, nth: int) -> None:
        self.step = step
        self._point = point
        self._left = nth
        self.has_written = self._has_committed = False
        # A moment in time, not a secret; of its own in each process.
        self._delay = Random().random() * _LONGEST_COMMIT  # noqa: S311

    def begin(self) -> bool:
        """Whether the call that begins is the one; others may be on their way meanwhile."""
        if self._left == 0:
            return False
        self._left -= 1
        self.has_written = self._has_committed = False
        return self._left == 0

    def again(self) -> None:
        """Wait for the next call: this one had nothing to do."""
        self._left = 1

    def at(self, point: str) -> None:
        """End, if this is the point."""
        if point == self._point:
            end()

    def statement(self, sql: str) -> bool:
        """End, if this statement is not to be executed; else whether to end while it is."""
        words = sql.split(None, 1)
        is_commit = words[:1] == ["COMMIT"]
        if self._has_committed:
            self.at("after")
        if self.has_written:
            self.at("midway")
            if is_commit:
                self.at("before commit")
        self.has_written |= bool(words) and words[0] in _WRITES
        self._has_committed |= is_commit and self.has_written
        return self._has_committed and self._point == "in commit"

    def soon(self) -> None:
        """End within the time that a commit takes, whatever the other threads do."""
        time.sleep(self._delay)
        end()


class DyingTrees(FaultyTrees):
    """Trees that end the process at a moment. `say` is told of all that is signed, beforehand.

    `pause` is a step, and what is awaited before each of its calls.
    """

    def __init__(
        self,
        trees: Trees,
        moment: Moment | None = None,
        *,
        say: Callable[..., None],
        pause: tuple[str, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        super().__init__(trees)
        self._moment = moment
        self._say = say
        self._pause = pause
        if moment is None:
            return
        if moment.step == ANCHOR:
            _watch_links(moment)
        elif isinstance(trees, SqliteTrees):
            _watch_sqlite(trees)
        elif isinstance(trees, PostgresTrees):
            _watch_asyncpg()

    async def publish(self, checkpoints: Sequence[Published]) -> list[str]:
        """Say what was signed, and publish it."""
        for each in checkpoints:
            self._say("signed", each.tenant_id, each.tree_size, each.root_hash.hex())
        return await super().publish(checkpoints)

    async def _do(self, step: str, call: Callable[[], Awaitable[_T]]) -> _T:
        if self._pause is not None and step == self._pause[0]:
            await self._pause[1]()
        moment = self._moment
        if moment is None or step != moment.step or not moment.begin():
            return await self._told(step, call)
        moment.at("before")
        token = _watched.set(moment)
        try:
            result = await super()._do(step, call)
        finally:
            _watched.reset(token)
        if moment.has_written:
            moment.at("after")
        else:
            moment.again()
        return result

    async def _told(self, step: str, call: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await super()._do(step, call)
        except Exception:
            self._say("failed", step)
            raise


def end() -> None:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # of which nothing passes, but in a thread that has not heard of it


def _watch_sqlite(trees: SqliteTrees) -> None:
    write = trees._write

    async def watched(work: Callable[[sqlite3.Connection], Any]) -> Any:
        moment = _watched.get()
        if moment is None:
            return await write(work)

        def trace(sql: str) -> None:
            if moment.statement(sql):
                threading.Thread(target=moment.soon).start()

        def traced(connection: sqlite3.Connection) -> Any:
            connection.set_trace_callback(trace)
            try:
                return work(connection)
            finally:
                connection.set_trace_callback(None)

        return await write(traced)

    trees._write = watched


def _watch_asyncpg() -> None:
    for name in _STATEMENTS:
        setattr(asyncpg.Connection, name, _watching(getattr(asyncpg.Connection, name)))


def _watching(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def watched(self: Any, query: str, *values: Any, **options: Any) -> Any:
        moment = _watched.get()
        if moment is not None and moment.statement(query):
            # By then the statement is on its way to the server, and no answer was read.
            asyncio.get_running_loop().call_soon(moment.soon)
        return await method(self, query, *values, **options)

    return watched


def _watch_links(moment: Moment) -> None:
    link = os.link

    def watched(*values: Any, **options: Any) -> None:
        is_it = moment.begin()
        if is_it:
            moment.at("before")
        link(*values, **options)
        if is_it:
            moment.at("after")

    directory.os.link = watched  # type: ignore[attr-defined]
