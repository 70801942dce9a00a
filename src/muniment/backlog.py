"""The backlog: what could not go to the store yet, on its way through the spool.

While there is any, everything that follows goes behind it, so that the order of recording holds.
All work on the spool is done in one thread of its own, in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from muniment.diagnostics import Diagnostics
from muniment.errors import EventRefused, SpoolError, StoreError, StoreUnavailable
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_PATIENCE: Final = 10.0
_AT_ONCE: Final = 2_000
_T = TypeVar("_T")


class Backlog:
    """Takes events into the spool, and drains the spool into the store, in order, once each."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        diagnostics: Diagnostics,
        on_drained: Callable[[int], None],
        on_empty: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._spool = spool
        self._diagnostics = diagnostics
        self._on_drained = on_drained
        self._on_empty = on_empty
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="muniment-spool")
        self._task: asyncio.Task[None] | None = None
        self.is_first = False
        """Whether events must go to the spool now, behind those that wait there."""
        self.is_spilling: Callable[[], bool] = lambda: False
        self.drained = 0
        self.refused = 0

    async def start(self) -> None:
        """Begin, in the running loop, with what earlier processes left in the spool."""
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._late: set[asyncio.Future[Any]] = set()
        try:
            await self.in_thread(self._spool.adopt_orphans)
            self.is_first = await self.in_thread(lambda: self._spool.pending) > 0
        except SpoolError as error:
            self._diagnostics.report(logging.ERROR, "spool", "the spool can't be read: %s", error)
        if self.is_first:
            self._wake.set()
        self._task = asyncio.create_task(self._drain(), name="muniment-drain")

    async def close(self) -> None:
        """Stop draining; what is left stays in the spool for the next process."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        for late in self._late:
            late.cancel()
        await self.in_thread(self._spool.close)
        self._thread.shutdown(wait=False)

    async def take(self, events: Sequence[Sealed], *, spooled: Callable[[], bool]) -> bool:
        """Put events behind the backlog, durably; False if there is none any more.

        `spooled` says whether they were put there meanwhile. Raises `SpoolError`.
        """
        async with self._lock:
            if not self.is_first:
                return False
            if not spooled():
                await self.in_thread(lambda: self._spool.append(events))
        self._wake.set()
        return True

    def begin(self) -> None:
        """From now on events go to the spool, until it is drained."""
        self.is_first = True

    def wake(self) -> None:
        """Say that there is something to drain; in the loop's own thread."""
        self._wake.set()

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have the spool's thread do something; from any thread."""
        return self._thread.submit(work)

    def append_here(self, events: Sequence[Sealed]) -> None:
        """Append to the spool in the calling thread, which must be the spool's."""
        self._spool.append(events)

    async def append(self, events: Sequence[Sealed]) -> None:
        """Append to the spool, whether or not there is a backlog."""
        await self.in_thread(lambda: self._spool.append(events))
        self.begin()
        self._wake.set()

    async def quarantine(self, event: Sealed, error: EventRefused) -> EventRefused:
        """Put aside an event that the store refuses; returns an error that says where it is."""
        path = await self.in_thread(lambda: self._spool.quarantine(event, str(error)))
        self.refused += 1
        refused = EventRefused(f"{error}; the event is in quarantine: {path}")
        self._diagnostics.report(logging.ERROR, "refused", "an event was refused: %s", refused)
        return refused

    async def in_time(self, work: Awaitable[_T], seconds: float) -> _T:
        """The result of `work`, or `StoreUnavailable` once it is late.

        A late call is cancelled but not waited for: a hung store may not even heed that.
        """
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done:
            return task.result()
        task.cancel()
        self._late.add(task)
        task.add_done_callback(self._forget)
        msg = f"no answer within {seconds:g} s"
        raise StoreUnavailable(msg)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """The result of `work`, done in the spool's thread."""
        return await self._loop.run_in_executor(self._thread, work)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nobody warns of it

    async def _drain(self) -> None:
        """Bring the spool into the store, trying ever less often while it is down."""
        pause = _FIRST_PAUSE
        while True:
            await self._wake.wait()
            try:
                is_empty = await self._drain_some()
            except (StoreError, SpoolError) as error:
                self._diagnostics.report(logging.WARNING, "drain", "draining waits: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if is_empty:
                self._wake.clear()
                await self._on_empty()

    async def _drain_some(self) -> bool:
        """Drain a batch; True once there is nothing left, and events go to the store again."""
        events = await self.in_thread(lambda: self._spool.peek(_AT_ONCE))
        if events:
            await self._store_some(events)
            await self.in_thread(lambda: self._spool.acknowledge(len(events)))
            return False
        async with self._lock:
            left = await self.in_thread(lambda: self._spool.pending)
            if left == 0 and not self.is_spilling():
                self.is_first = False
                return True
        return False

    async def _store_some(self, events: Sequence[Sealed]) -> None:
        """Store a batch of the spool, halving it until those that the store refuses stand alone."""
        try:
            await self.in_time(self._store.append(events), _PATIENCE)
        except EventRefused as error:
            if len(events) == 1:
                await self.quarantine(events[0], error)
                return
            middle = len(events) // 2
            await self._store_some(events[:middle])
            await self._store_some(events[middle:])
        else:
            self.drained += len(events)
            self._on_drained(len(events))
