"""Queue -> batch -> group commit.

One loop takes whatever has queued up while the last commit was under way, and commits that in one
transaction. When the store fails or is late, batches go to the backlog instead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from muniment.backlog import Backlog
from muniment.diagnostics import Diagnostics
from muniment.errors import (
    EventRefused,
    LogClosed,
    MunimentError,
    NotDurable,
    SpoolError,
    StoreError,
)
from muniment.losses import Losses
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store, StoredEvent

_FLUSH_POLL: Final = 0.001


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
        """Say where the n-th event ended."""
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
    `overflow` is "drop"; at four times as many nothing but dropping keeps memory bounded.
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
        self._settings = settings
        self._diagnostics = diagnostics
        self._losses = losses
        self._on_stored = on_stored
        self._backlog = Backlog(
            store,
            spool,
            diagnostics=diagnostics,
            on_drained=on_stored,
            on_empty=self._record_losses,
        )
        self._backlog.is_spilling = lambda: self._spilling
        self._queue: deque[_Queued] = deque()
        self._queue_bytes = 0
        self._inflight: list[_Queued] = []
        self._inflight_spooled = False
        self._spilling = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._counts = dict.fromkeys(("stored", "already", "spooled", "dropped", "batches"), 0)
        self.last_commit_seconds = 0.0
        self.last_batch = 0

    # --- life

    async def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._wake = asyncio.Event()
        await self._backlog.start()
        self._task = asyncio.create_task(self._record_batches(), name="muniment-recorder")

    async def close(self) -> None:
        """Place everything that is queued, in the store or in the spool; then stop."""
        if self._task is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.wait({self._task})
        self._task = None
        await self._record_losses(last=True)
        await self._backlog.close()

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
            self._wake.set()
            await asyncio.sleep(_FLUSH_POLL)

    def lose(self, tenant_id: str, reason: str) -> None:
        """Count an event that could not even be sealed."""
        self._counts["dropped"] += 1
        self._losses.count_one(tenant_id, reason)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many events are queued or being committed."""
        return len(self._queue) + len(self._inflight)

    @property
    def is_spooling(self) -> bool:
        """Whether events go to the spool now, because the store is down or the spool not empty."""
        return self._backlog.is_first

    @property
    def counts(self) -> dict[str, int]:
        """How many events were placed where since the log was opened."""
        return {
            **self._counts,
            "drained": self._backlog.drained,
            "refused": self._backlog.refused,
        }

    # --- the recording loop

    async def _record_batches(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                if self._losses and not self._queue:
                    await self._record_losses()
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
        size = 0
        self._inflight_spooled = False
        self._inflight = batch
        while len(batch) < self._settings.max_batch and size < self._settings.max_batch_bytes:
            try:
                queued = self._queue.popleft()
            except IndexError:  # the spool's thread takes from it too
                break
            batch.append(queued)
            size += len(queued.event.body)
        self._queue_bytes -= size
        return batch

    async def _deliver(self, batch: list[_Queued]) -> None:
        if not batch or (self._backlog.is_first and await self._take_to_backlog(batch)):
            return
        started = self._loop.time()
        try:
            already = await self._backlog.in_time(
                self._store.append([q.event for q in batch]), self._settings.deadline
            )
        except EventRefused as error:
            await self._isolate(batch, error)
            return
        except StoreError as error:
            self._diagnostics.report(
                logging.WARNING, "store", "the store fails, events go to the spool: %s", error
            )
            self._backlog.begin()
            await self._take_to_backlog(batch)
            return
        self.last_commit_seconds = self._loop.time() - started
        self.last_batch = len(batch)
        self._counts["batches"] += 1
        self._place_stored(batch, already)
        if self._losses:
            await self._record_losses()

    def _place_stored(self, batch: list[_Queued], already: Mapping[int, StoredEvent]) -> None:
        self._counts["stored"] += len(batch) - len(already)
        self._counts["already"] += len(already)
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
            refused = await self._backlog.quarantine(queued.event, error)
        except SpoolError as spool_error:
            self._fail(batch, NotDurable(f"{error}; and no quarantine: {spool_error}"))
            return
        if queued.ticket is not None:
            queued.ticket.place(queued.place_in_ticket, Placement("lost", error=refused))

    async def _take_to_backlog(self, batch: list[_Queued]) -> bool:
        """Spool the batch; False if the backlog was drained while we waited for it."""
        try:
            events = [q.event for q in batch]
            if not await self._backlog.take(events, spooled=lambda: self._inflight_spooled):
                return False
        except SpoolError as error:
            self._fail(batch, NotDurable(f"the store is down, and the spool fails: {error}"))
            return True
        self._spooled(batch)
        return True

    def _spooled(self, batch: list[_Queued]) -> None:
        self._counts["spooled"] += len(batch)
        for queued in batch:
            if queued.ticket is not None:
                queued.ticket.place(queued.place_in_ticket, _SPOOLED)
        self._backlog.wake()

    # --- overflow

    def _is_over(self, times: int) -> bool:
        settings = self._settings
        return (
            len(self._queue) >= times * settings.max_queue
            or self._queue_bytes >= times * settings.max_queue_bytes
        )

    def _spill_soon(self) -> None:
        """Have the spool's thread empty the queue, however busy the event loop is kept."""
        if not self._spilling and self._settings.overflow == "spool":
            self._spilling = True
            self._backlog.begin()
            self._backlog.submit(self._spill)

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
                self._backlog.append_here([q.event for q in (*inflight, *batch)])
            except SpoolError as error:
                lost = NotDurable(f"the queue is full, and the spool fails: {error}")
                self._loop.call_soon_threadsafe(self._fail, batch, lost)
            else:
                self._inflight_spooled = True
                self._loop.call_soon_threadsafe(self._spooled, batch)
        finally:
            self._spilling = False

    # --- losses

    def _fail(self, batch: Sequence[_Queued], error: NotDurable) -> None:
        """Nothing could take the batch: tell those who wait, and count it."""
        self._drop([q.event for q in batch], str(error))
        for queued in batch:
            if queued.ticket is not None:
                queued.ticket.place(queued.place_in_ticket, Placement("lost", error=error))

    def _drop(self, events: Sequence[Sealed], reason: str) -> None:
        self._counts["dropped"] += len(events)
        self._losses.count(events, reason)
        self._diagnostics.report(logging.ERROR, "lost", "events are lost: %s", reason)

    async def _record_losses(self, *, last: bool = False) -> None:
        """Record what was lost, now that something can be recorded."""
        for loss, event in self._losses.take():
            try:
                await self._backlog.in_time(self._store.append([event]), self._settings.deadline)
            except StoreError:
                try:
                    if not last:
                        self._losses.put_back(loss)
                    else:
                        await self._backlog.append([event])
                except SpoolError as error:
                    self._diagnostics.report(logging.ERROR, "loss", "not even noted: %s", error)
