"""The backlog: what could not go to the store yet, on its way through the spool.

While there is any, everything that follows goes behind it, so that the order of recording holds.
All work on the spool is done in one thread of its own, in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from muniment.diagnostics import Diagnostics
from muniment.errors import Conflict, EventRefused, MunimentError, SpoolError, StoreUnavailable
from muniment.receipts import differing_fields
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store, StoredEvent

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_PATIENCE: Final = 10.0
_AT_ONCE: Final = 2_000
_T = TypeVar("_T")


def _never() -> bool:
    return False


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
        """Whether events must go to the spool now, behind those that wait there.

        Changed in the spool's thread only, together with what is in the spool.
        """
        self.is_closed = False
        self._is_ending = False
        """Whether the store takes what is left, and that is little."""
        self.drained = 0
        self.refused = 0
        self.conflicts = 0
        self.store_error: str | None = None
        """Why the store failed when events were last brought to it."""
        self._is_recounting = False

    # --- life

    async def start(self) -> None:
        """Begin, in the running loop, with what earlier processes left in the spool."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._late: set[asyncio.Future[Any]] = set()
        try:
            await self.in_thread(self._spool.adopt_orphans)
        except SpoolError as error:
            self._diagnostics.report(logging.ERROR, "spool", "the spool can't be read: %s", error)
        self.is_first = self._spool.pending > 0
        if self.is_first:
            self._wake.set()
        self._task = asyncio.create_task(self._drain(), name="muniment-drain")

    async def close(self, patience: float) -> None:
        """Drain for up to `patience` seconds, unless the store fails, and let go of the spool.

        What is left stays there, for the next process.
        """
        if self.is_closed:
            return
        if self._task is not None:
            self._stopping.set()
            self._wake.set()
            await asyncio.wait({self._task}, timeout=patience)
            # After a cut here: a batch that may be stored and is in the spool; it is drained again.
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self.is_closed = True
        await self.in_thread(self._spool.close)
        self._thread.shutdown(wait=False)

    # --- what goes into the spool

    async def take(
        self, events: Sequence[Sealed], *, until: float = 0.0, unless: Callable[[], bool] = _never
    ) -> bool:
        """Put events behind the backlog, durably; False if there is none any more.

        Where little is left and the store takes it, that is waited for (by the loop's clock until
        `until` at most): a steady load would else be behind it forever. Not put there if they turn
        out to be there already (`unless`). Raises `SpoolError`.
        """

        def append_behind() -> bool:
            if self.is_first and not unless():
                self.append_here(events)
            return self.is_first

        if self._is_ending and self.is_first:
            try:
                async with asyncio.timeout_at(until):
                    await self._ended.wait()
            except TimeoutError:
                self._let_go()
        return self.is_first and await self.in_thread(append_behind)

    async def append(
        self, events: Sequence[Sealed], *, unless: Callable[[], bool] = _never
    ) -> None:
        """Put events into the spool, durably, whether or not there is a backlog.

        Not if they turn out to be there already (`unless`). Raises `SpoolError`.
        """

        def append() -> None:
            if not unless():
                self.append_here(events)

        await self.in_thread(append)
        self._wake.set()

    def append_here(self, events: Sequence[Sealed]) -> None:
        """Put events into the spool, in the calling thread, which must be the spool's."""
        self._spool.append(events)
        self.is_first = True

    def submit(self, work: Callable[[], None]) -> None:
        """Have the spool's thread do something; from any thread."""
        self._thread.submit(work)

    def wake(self) -> None:
        """Say that there is something to drain; in the loop's own thread."""
        self._wake.set()

    # --- what goes to the store

    async def store(self, events: Sequence[Sealed], seconds: float) -> Mapping[int, StoredEvent]:
        """Append events to the store, within so many seconds; raises what it raises."""
        try:
            already = await self.in_time(self._store.append(events), seconds)
        except Exception as error:
            # One that refuses an event has answered.
            self.store_error = (
                None if isinstance(error, EventRefused) else str(error) or repr(error)
            )
            raise
        self.store_error = None
        return already

    async def quarantine(self, event: Sealed, error: EventRefused) -> EventRefused:
        """Put aside an event that the store refuses; returns an error that says where it is.

        Raises `SpoolError`.
        """
        path = await self.in_thread(lambda: self._spool.quarantine(event, str(error)))
        self.refused += 1
        refused = EventRefused(f"{error}; the event is in quarantine: {path}")
        self._diagnostics.report(logging.ERROR, "refused", "an event was refused: %s", refused)
        return refused

    async def put_aside_conflict(self, event: Sealed, there: StoredEvent) -> None:
        """Put an event in quarantine if it differs from what is stored under its id.

        For those of which nobody can be told that they are a `Conflict`. Raises `SpoolError`.
        """
        try:
            differing = differing_fields(event, there)
        except MunimentError:
            differing = ("body",)  # at least one of them is no event that we can read
        if not differing:
            return
        conflict = Conflict(there.event_id, differing)
        path = await self.in_thread(lambda: self._spool.quarantine(event, str(conflict)))
        self.conflicts += 1
        self._diagnostics.report(
            logging.ERROR, "conflict", "%s The other one is in quarantine: %s", conflict, path
        )

    def recount(self) -> None:
        """Have what was put aside counted anew, in the spool's thread; from any thread."""
        if not self._is_recounting:
            self._is_recounting = True
            with contextlib.suppress(RuntimeError):  # the thread has ended, with the event loop
                self._thread.submit(self._recount)

    def _recount(self) -> None:
        self._is_recounting = False
        self._spool.recount()

    # --- how it is done

    async def in_time(self, work: Awaitable[_T], seconds: float) -> _T:
        """The result of `work`, or `StoreUnavailable` once it is late.

        A late call is cancelled but not waited for: a hung store may not even heed that.
        """
        task = asyncio.ensure_future(work)
        self._late.add(task)
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait({task}, timeout=max(0.0, seconds))
        finally:
            if not task.done():
                task.cancel()
        if not task.done():
            raise StoreUnavailable(f"no answer within {seconds:.2g} s")
        if task.cancelled():
            raise StoreUnavailable("the store gave up the call")
        return task.result()

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
        while not self._stopping.is_set() or self.is_first:
            await self._wake.wait()
            try:
                await self._drain_some()
                pause = _FIRST_PAUSE
            except Exception as error:  # noqa: BLE001 - whatever it is, draining must go on
                self._let_go()
                self._diagnostics.report(logging.WARNING, "drain", "draining waits: %s", error)
                if self._stopping.is_set():
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _drain_some(self) -> None:
        """Drain a batch, or find that nothing is left and events go to the store again."""
        events = await self.in_thread(lambda: self._spool.peek(_AT_ONCE))
        if events:
            await self._store_some(events)
            if self._spool.pending <= _AT_ONCE:
                self._is_ending = True
                self._ended.clear()
            else:
                self._let_go()
            return
        self._wake.clear()
        if await self.in_thread(self._end):
            self._let_go()
            await self._on_empty()
        else:
            self._wake.set()

    def _let_go(self) -> None:
        """Have nobody wait for the end of the backlog: it has come, or won't come soon."""
        self._is_ending = False
        self._ended.set()

    def _end(self) -> bool:
        """End the backlog if nothing is left; in the spool's thread, so that nothing comes in."""
        self.is_first = self._spool.pending > 0
        return not self.is_first

    async def _store_some(self, events: Sequence[Sealed]) -> None:
        """Store a batch of the spool, halving it until those that the store refuses stand alone."""
        try:
            already = await self.store(events, _PATIENCE)
        except EventRefused as error:
            if len(events) > 1:
                middle = len(events) // 2
                await self._store_some(events[:middle])
                await self._store_some(events[middle:])
                return
            await self.quarantine(events[0], error)
        else:
            for n, there in already.items():
                await self.put_aside_conflict(events[n], there)
            self.drained += len(events)
            self._on_drained(len(events))
        await self.in_thread(lambda: self._spool.acknowledge(len(events)))
