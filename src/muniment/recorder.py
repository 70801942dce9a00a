"""Queue -> batch -> group commit, with the spool behind it.

One loop takes whatever has queued up while the last commit was under way, and commits that in one
transaction. When the store fails or is late, batches go to the spool instead, and so does all that
follows, until a second loop has drained the spool in order. So the order of recording holds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec

from muniment.diagnostics import Diagnostics
from muniment.errors import (
    EventRefused,
    LogClosed,
    MunimentError,
    NotDurable,
    SpoolError,
    StoreError,
    StoreUnavailable,
)
from muniment.losses import Losses
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store, StoredEvent

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_DRAIN_PATIENCE: Final = 10.0
_T = TypeVar("_T")


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where an event ended: in the store (perhaps `already` there), in the spool, or nowhere."""

    place: str
    already: StoredEvent | None = None
    error: MunimentError | None = None


_STORED: Final = Placement("store")
_SPOOLED: Final = Placement("spool")


class Ticket:
    """Waits for the placements of some events, in their order."""

    __slots__ = ("_missing", "future", "placements")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.placements: list[Placement] = [_STORED] * count
        self._missing = count
        self.future: asyncio.Future[list[Placement]] = loop.create_future()

    def place(self, n: int, placement: Placement) -> None:
        self.placements[n] = placement
        self._missing -= 1
        if self._missing <= 0 and not self.future.done():
            self.future.set_result(self.placements)


class _Queued(msgspec.Struct, gc=False):
    event: Sealed
    ticket: Ticket | None
    place_in_ticket: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`deadline` is how long, in seconds, a store may take before a batch goes to the spool.

    A batch holds at most `max_batch` events and about `max_batch_bytes` of bodies. From
    `max_queue` waiting events on, `emit` moves them to the spool, or drops and counts them if
    `overflow` is "drop"; beyond four times as many nothing but dropping keeps memory bounded.
    """

    deadline: float = 2.0
    max_batch: int = 2_000
    max_batch_bytes: int = 8 * 2**20
    max_queue: int = 20_000
    max_queue_bytes: int = 32 * 2**20
    overflow: str = "spool"


class Recorder:
    """Places sealed events. Bound to the event loop it is started in; `offer` is thread-safe."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        settings: Settings,
        diagnostics: Diagnostics,
        losses: Losses,
        on_stored: Callable[[int], None],
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._diagnostics = diagnostics
        self._losses = losses
        self._on_stored = on_stored
        self._queue: deque[_Queued] = deque()
        self._queue_bytes = 0
        self._inflight: list[_Queued] = []
        self._inflight_spooled = False
        self._spilling = False
        self._spool_first = False
        self._closing = False
        self._spool_thread = ThreadPoolExecutor(1, thread_name_prefix="muniment-spool")
        self._tasks: list[asyncio.Task[None]] = []
        self._abandoned: set[asyncio.Future[Any]] = set()
        self.counts: dict[str, int] = dict.fromkeys(
            ("stored", "spooled", "drained", "refused", "dropped", "batches", "already"), 0
        )
        self.last_commit_seconds = 0.0
        self.last_batch = 0

    # --- life

    async def start(self) -> None:
        """Begin, in the running loop. What earlier processes left in the spool is drained first."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._wake = asyncio.Event()
        self._drain_wake = asyncio.Event()
        self._spool_lock = asyncio.Lock()
        try:
            await self._in_spool_thread(self._spool.adopt_orphans)
            self._spool_first = await self._in_spool_thread(lambda: self._spool.pending) > 0
        except SpoolError as error:
            self._diagnostics.report(logging.ERROR, "spool", "the spool can't be read: %s", error)
        self._tasks = [
            asyncio.create_task(self._record_batches(), name="muniment-recorder"),
            asyncio.create_task(self._drain(), name="muniment-drain"),
        ]
        if self._spool_first:
            self._drain_wake.set()

    async def close(self) -> None:
        """Place everything that is queued, in the store or in the spool; then stop."""
        if not self._tasks:
            return
        self._closing = True
        self._wake.set()
        recording, draining = self._tasks
        await asyncio.wait({recording})
        await self._record_losses(last=True)
        draining.cancel()
        await asyncio.wait({draining})
        for late in self._abandoned:
            late.cancel()
        await self._in_spool_thread(self._spool.close)
        self._tasks = []
        self._spool_thread.shutdown(wait=False)

    # --- what callers do

    def submit(self, events: Sequence[Sealed]) -> Ticket:
        """Queue events whose caller waits for them; in the loop's own thread only."""
        if self._closing:
            raise LogClosed
        ticket = Ticket(len(events), self._loop)
        if not events:
            ticket.future.set_result([])
        for n, event in enumerate(events):
            self._queue.append(_Queued(event, ticket, n))
            self._queue_bytes += len(event.body)
        self._wake.set()
        return ticket

    def offer(self, event: Sealed) -> None:
        """Queue an event that nobody waits for, from any thread; never blocks."""
        if self._closing:
            raise LogClosed
        queue, settings = self._queue, self._settings
        waiting = len(queue)
        if waiting >= settings.max_queue or self._queue_bytes >= settings.max_queue_bytes:
            if self._is_over(4 if settings.overflow == "spool" else 1):
                self._drop([event], "the queue was full")
                return
            self._spill_soon()
        queue.append(_Queued(event, None, 0))
        self._queue_bytes += len(event.body)
        if threading.get_ident() == self._thread:
            self._wake.set()
        elif waiting == 0:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def flush(self) -> None:
        """Wait until every event queued so far is placed."""
        while self._queue or self._inflight or self._spilling:
            last = (self._queue or self._inflight or [None])[-1]
            if last is None or last.ticket is None:
                self._wake.set()
                await asyncio.sleep(0.001)
            else:
                await asyncio.wait({last.ticket.future})

    @property
    def waiting(self) -> int:
        """How many events are queued or being committed."""
        return len(self._queue) + len(self._inflight)

    @property
    def is_spooling(self) -> bool:
        """Whether events go to the spool now, because the store is down or the spool not empty."""
        return self._spool_first

    # --- the recording loop

    async def _record_batches(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._take()
            try:
                await self._deliver(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait forever
                self._fail(batch, NotDurable(f"recording failed: {error!r}"))
            finally:
                self._inflight = []
            # Let the callers who were just answered queue their next events.
            await asyncio.sleep(0)

    def _take(self) -> list[_Queued]:
        batch: list[_Queued] = []
        queue, size = self._queue, 0
        most, most_bytes = self._settings.max_batch, self._settings.max_batch_bytes
        self._inflight_spooled = False
        self._inflight = batch
        while len(batch) < most and size < most_bytes:
            try:
                queued = queue.popleft()
            except IndexError:
                break
            batch.append(queued)
            size += len(queued.event.body)
        self._queue_bytes -= size
        return batch

    async def _deliver(self, batch: list[_Queued]) -> None:
        if not batch:
            return
        if self._spool_first and await self._spool_unless_drained(batch):
            return
        started = self._loop.time()
        try:
            already = await self._in_time(
                self._store.append([q.event for q in batch]), self._settings.deadline
            )
        except EventRefused as error:
            await self._isolate(batch, error)
            return
        except StoreError as error:
            self._diagnostics.report(
                logging.WARNING, "store", "the store fails, events go to the spool: %s", error
            )
            self._spool_first = True
            await self._spool_unless_drained(batch)
            self._drain_wake.set()
            return
        self.last_commit_seconds = self._loop.time() - started
        self.last_batch = len(batch)
        self.counts["batches"] += 1
        self._place_stored(batch, already)
        if self._losses:
            await self._record_losses()

    async def _in_time(self, work: Any, seconds: float) -> Mapping[int, StoredEvent]:
        """The result of `work`, or `StoreUnavailable` once it is late.

        A late call is cancelled but not waited for: a hung store may not even heed that.
        """
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            result: Mapping[int, StoredEvent] = task.result()
            return result
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)
        raise StoreUnavailable(f"no answer within {seconds:g} s")

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()

    def _place_stored(self, batch: list[_Queued], already: Mapping[int, StoredEvent]) -> None:
        self.counts["stored"] += len(batch) - len(already)
        self.counts["already"] += len(already)
        for n, queued in enumerate(batch):
            if queued.ticket is not None:
                there = already.get(n) if already else None
                placement = _STORED if there is None else Placement("store", there)
                queued.ticket.place(queued.place_in_ticket, placement)
        self._on_stored(len(batch))

    async def _isolate(self, batch: list[_Queued], error: EventRefused) -> None:
        """Halve a refused batch until the event that the store refuses stands alone."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._deliver(batch[:middle])
            await self._deliver(batch[middle:])
            return
        (queued,) = batch
        try:
            path = await self._in_spool_thread(lambda: self._spool.quarantine(queued.event, str(error)))
        except SpoolError as spool_error:
            self._fail(batch, NotDurable(f"{error}; and no quarantine: {spool_error}"))
            return
        self.counts["refused"] += 1
        refused = EventRefused(f"{error}; the event is in quarantine: {path}")
        self._diagnostics.report(logging.ERROR, "refused", "an event was refused: %s", refused)
        if queued.ticket is not None:
            queued.ticket.place(queued.place_in_ticket, Placement("lost", error=refused))

    # --- the spool

    async def _spool_unless_drained(self, batch: list[_Queued]) -> bool:
        """Spool the batch, or return False if the spool was drained while we waited for it."""
        async with self._spool_lock:
            if not self._spool_first:
                return False
            try:
                if not self._inflight_spooled:
                    await self._in_spool_thread(lambda: self._spool.append([q.event for q in batch]))
            except SpoolError as error:
                self._fail(batch, NotDurable(f"the store is down, and the spool fails: {error}"))
                return True
        self.counts["spooled"] += len(batch)
        for queued in batch:
            if queued.ticket is not None:
                queued.ticket.place(queued.place_in_ticket, _SPOOLED)
        self._drain_wake.set()
        return True

    def _is_over(self, times: int) -> bool:
        settings = self._settings
        return (
            len(self._queue) >= times * settings.max_queue
            or self._queue_bytes >= times * settings.max_queue_bytes
        )

    def _spill_soon(self) -> None:
        """Have the spool's thread empty the queue, however busy the event loop is kept."""
        if self._spilling or self._settings.overflow != "spool":
            return
        self._spilling = True
        self._spool_first = True
        self._spool_thread.submit(self._spill)

    def _spill(self) -> None:
        """Move the queue to the spool, behind the batch that is being committed: order holds.

        That batch is spooled too, since it may yet fail; if it succeeds, draining finds it stored.
        """
        try:
            inflight = [] if self._inflight_spooled else list(self._inflight)
            batch: list[_Queued] = []
            for _ in range(len(self._queue)):
                try:
                    batch.append(self._queue.popleft())
                except IndexError:  # the recording loop takes from it too
                    break
            self._queue_bytes -= sum(len(q.event.body) for q in batch)
            try:
                self._spool.append([q.event for q in (*inflight, *batch)])
            except SpoolError as error:
                self._loop.call_soon_threadsafe(
                    self._fail, batch, NotDurable(f"the queue is full, and the spool fails: {error}")
                )
            else:
                self._inflight_spooled = True
                self._loop.call_soon_threadsafe(self._spilled, batch)
        finally:
            self._spilling = False

    def _spilled(self, batch: list[_Queued]) -> None:
        self.counts["spooled"] += len(batch)
        for queued in batch:
            if queued.ticket is not None:
                queued.ticket.place(queued.place_in_ticket, _SPOOLED)
        self._drain_wake.set()

    async def _drain(self) -> None:
        """Bring the spool into the store, in order, trying ever less often while it is down."""
        pause = _FIRST_PAUSE
        while True:
            await self._drain_wake.wait()
            try:
                drained_all = await self._drain_some()
            except (StoreError, SpoolError) as error:
                self._diagnostics.report(logging.WARNING, "drain", "draining waits: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if drained_all:
                self._drain_wake.clear()
                self._diagnostics.info("the spool is drained; events go to the store again")
                await self._record_losses()

    async def _drain_some(self) -> bool:
        settings = self._settings
        events = await self._in_spool_thread(
            lambda: self._spool.peek(settings.max_batch, settings.max_batch_bytes)
        )
        if events:
            refused = await self._drain_batch(events)
            await self._in_spool_thread(lambda: self._spool.acknowledge(len(events)))
            self.counts["drained"] += len(events) - refused
            self._on_stored(len(events))
            return False
        async with self._spool_lock:
            empty = await self._in_spool_thread(lambda: self._spool.pending) == 0
            if empty and not self._spilling:
                self._spool_first = False
                return True
        return False

    async def _drain_batch(self, events: Sequence[Sealed]) -> int:
        """Store a batch of the spool; those that the store refuses are quarantined and counted."""
        try:
            await self._in_time(self._store.append(events), _DRAIN_PATIENCE)
        except EventRefused as error:
            if len(events) > 1:
                middle = len(events) // 2
                first = await self._drain_batch(events[:middle])
                return first + await self._drain_batch(events[middle:])
            reason = str(error)
            await self._in_spool_thread(lambda: self._spool.quarantine(events[0], reason))
            self.counts["refused"] += 1
            self._diagnostics.report(logging.ERROR, "refused", "an event was refused: %s", error)
            return 1
        return 0

    async def _in_spool_thread(self, work: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._spool_thread, work)

    # --- losses

    def _fail(self, batch: Sequence[_Queued], error: NotDurable) -> None:
        """Nothing could take the batch: tell those who wait, count the rest."""
        self._drop([q.event for q in batch], str(error))
        for queued in batch:
            if queued.ticket is not None:
                queued.ticket.place(queued.place_in_ticket, Placement("lost", error=error))

    def _drop(self, events: Sequence[Sealed], reason: str) -> None:
        self.counts["dropped"] += len(events)
        self._losses.count(events, reason)
        self._diagnostics.report(logging.ERROR, "lost", "events are lost: %s", reason)

    async def _record_losses(self, *, last: bool = False) -> None:
        """Record what was lost, now that something can be recorded."""
        for seal, count in self._losses.take():
            event = seal()
            try:
                await self._in_time(self._store.append([event]), self._settings.deadline)
            except StoreError:
                if last and await self._spooled_last(event):
                    continue
                self._losses.put_back(count)

    async def _spooled_last(self, event: Sealed) -> bool:
        try:
            await self._in_spool_thread(lambda: self._spool.append([event]))
        except SpoolError:
            return False
        return True
