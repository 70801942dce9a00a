"""Queue -> batch -> group commit.

One loop takes whatever has come in while the last commit was under way, and commits that in one
transaction. When the store fails or is late, batches go to the backlog instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from muniment.backlog import Backlog
from muniment.diagnostics import Diagnostics
from muniment.errors import (
    Conflict,
    EventRefused,
    LogClosed,
    MunimentError,
    NotDurable,
    SpoolError,
)
from muniment.intake import SPOOLED, Intake, Placement, Queued, Ticket, place_stored
from muniment.losses import Losses
from muniment.metrics import EVENTS, SECONDS, Histogram
from muniment.sealing import Draft
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store, StoredEvent

_AT_MOST: Final = 4
_NO_PLACE: Final = "neither the store nor the spool could take it in time"
_T = TypeVar("_T")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`deadline` is how long, in seconds, a store may take before a batch goes to the spool.

    A batch holds at most `max_batch` events and about `max_batch_bytes` of bodies. Once
    `max_queue` emitted events or `max_queue_bytes` of them wait, `emit` has them moved to the
    spool; if `overflow` is "drop", it drops what comes, and counts it. At four times as many,
    which is when the spool can't keep up either, nothing but dropping keeps memory bounded.
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
        self._intake = Intake()
        self._flushing: list[asyncio.Future[None]] = []
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._conflicts = 0
        self._counts = dict.fromkeys(("stored", "already", "spooled", "batches"), 0)
        self.commit_seconds = Histogram(SECONDS)
        self.batch_events = Histogram(EVENTS)

    # --- life

    async def start(self, *, spooling: bool = False) -> None:
        """Begin, in the running loop; with the spool if `spooling`, until the store answers."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._wake = asyncio.Event()
        await self._backlog.start()
        self._backlog.is_first |= spooling
        self._task = asyncio.create_task(self._record_batches(), name="muniment-recorder")

    async def close(self) -> None:
        """Place everything that is queued, in the store or in the spool; then stop."""
        task, self._task = self._task, None
        if task is None:
            return
        self._intake.close()
        self._closing = True
        self._wake.set()
        await asyncio.wait({task})
        if task.cancelled() or task.exception() is not None:
            await self._abandon()
            return
        await self._record_losses()
        await self._backlog.close(self._settings.deadline)

    # --- what callers do

    def submit(self, events: Sequence[Sealed]) -> Ticket:
        """Queue events whose caller waits for them; in the loop's own thread only."""
        if asyncio.get_running_loop() is not self._loop:
            msg = "The log belongs to another event loop: open one in each loop that records."
            raise LogClosed(msg)
        ticket = Ticket(len(events), self._loop)
        if not events:
            ticket.future.set_result([])
        self._intake.put_all(events, ticket)
        self._wake.set()
        return ticket

    def offer(self, event: Sealed | Draft) -> None:
        """Queue an event that nobody waits for, from any thread; never blocks.

        Raises `LogClosed`.
        """
        if self._loop.is_closed():
            msg = "The event loop of the log has ended: close a log before its loop."
            raise LogClosed(msg)
        intake, settings = self._intake, self._settings
        if (
            intake.emitted >= settings.max_queue or intake.emitted_bytes >= settings.max_queue_bytes
        ) and not self._make_room():
            self._drop([Queued(event).event], "the queue was full")
        elif intake.put(event):
            self._wake_up()

    async def flush(self) -> None:
        """Wait until every event queued so far is placed."""
        goal = self._intake.received
        while self._intake.placed < goal:
            waiter = self._loop.create_future()
            self._flushing.append(waiter)
            await waiter

    def lose(self, tenant_id: str, reason: str) -> None:
        """Count an event that could not even be sealed; from any thread."""
        self._losses.count_one(tenant_id, reason)
        self._wake_up()

    def count_conflicts(self, failures: Sequence[MunimentError]) -> None:
        """Count those of what callers are told that say that there is a `Conflict`."""
        self._conflicts += sum(isinstance(failure, Conflict) for failure in failures)

    @property
    def waiting(self) -> int:
        """How many events are queued or being committed."""
        return len(self._intake)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of bodies are queued or being committed."""
        return self._intake.waiting_bytes

    @property
    def is_spooling(self) -> bool:
        """Whether events go to the spool now, because the store is down or the spool not empty."""
        return self._backlog.is_first

    @property
    def store_error(self) -> str | None:
        """Why the store failed when events were last brought to it, None if it did not."""
        return self._backlog.store_error

    @property
    def counts(self) -> dict[str, int]:
        """How many events were placed where since the log was opened."""
        return {
            **self._counts,
            "dropped": self._losses.total,
            "drained": self._backlog.drained,
            "refused": self._backlog.refused,
            "conflicts": self._conflicts + self._backlog.conflicts,
        }

    async def in_time(self, work: Awaitable[_T], seconds: float) -> _T:
        """The result of `work`, or `StoreUnavailable` once it is late."""
        return await self._backlog.in_time(work, seconds)

    def look_again(self) -> None:
        """Say that the store may be there now; in the loop's own thread."""
        self._backlog.wake()

    def recount(self) -> None:
        """Have what was put aside in the spool counted anew, soon; from any thread."""
        self._backlog.recount()

    def _wake_up(self) -> None:
        if threading.get_ident() == self._thread:
            self._wake.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._wake.set)

    # --- the recording loop

    async def _record_batches(self) -> None:
        try:
            while True:
                batch = self._intake.take(self._settings.max_batch, self._settings.max_batch_bytes)
                if batch:
                    await self._record_batch(batch)
                    # Let the callers who were just answered queue their next events.
                    await asyncio.sleep(0)
                elif self._closing and self._intake.is_idle:
                    return
                else:
                    await self._wake.wait()
                    self._wake.clear()  # before we look: what comes from here on wakes us again
                    if self._losses and not self._intake:
                        await self._record_losses()
        except asyncio.CancelledError:
            await self._abandon()
            raise

    async def _abandon(self) -> None:
        """The loop ends under us: what is queued goes to the spool. Safe to call twice."""
        if self._backlog.is_closed:
            return
        self._intake.close()
        await self._backlog.in_thread(self._spill)
        self._intake.finish()
        await self._record_losses()
        await self._backlog.close(0)

    async def _record_batch(self, batch: Sequence[Queued]) -> None:
        try:
            await self._deliver(batch, self._loop.time() + self._settings.deadline)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait forever
            self._fail(batch, NotDurable(f"recording failed: {error!r}"))
        self._intake.finish()
        self._flushed()

    def _flushed(self) -> None:
        flushing, self._flushing = self._flushing, []
        for waiter in flushing:
            if not waiter.done():
                waiter.set_result(None)

    async def _deliver(self, batch: Sequence[Queued], until: float) -> None:
        """Place a batch behind the backlog if there is one, else in the store.

        Where one of them fails, the other is tried. `until` is when the store has had its time.
        """
        events = [queued.event for queued in batch]
        problem: SpoolError | None = None
        try:
            half = until - self._settings.deadline / 2  # the other half is the store's own
            if await self._backlog.take(events, until=half, unless=self._is_spooled):
                self._place_spooled(batch)
                return
        except SpoolError as error:
            problem = error
        started = self._loop.time()
        try:
            already = await self._backlog.store(events, until - started)
        except EventRefused as error:
            await self._isolate(batch, error, until)
        except Exception as error:  # noqa: BLE001 - a failing store may raise anything
            self._diagnostics.report(
                logging.WARNING, "store", "the store fails, events go to the spool: %s", error
            )
            try:
                if problem is not None:
                    raise problem from error
                await self._backlog.append(events, unless=self._is_spooled)
            except SpoolError as spool_error:
                lost = f"the store fails: {error}; and the spool: {spool_error}"
                self._fail(batch, NotDurable(lost))
            else:
                self._place_spooled(batch)
        else:
            self.commit_seconds.observe(self._loop.time() - started)
            self.batch_events.observe(len(batch))
            self._place_stored(batch, already)
            for n, there in already.items():
                if batch[n].ticket is None:
                    await self._put_aside_conflict(batch[n].event, there)
            if self._losses:
                await self._record_losses()

    def _place_stored(self, batch: Sequence[Queued], already: Mapping[int, StoredEvent]) -> None:
        self._counts["batches"] += 1
        self._counts["stored"] += len(batch) - len(already)
        self._counts["already"] += len(already)
        place_stored(batch, already)
        self._on_stored(len(batch))

    async def _put_aside_conflict(self, event: Sealed, there: StoredEvent) -> None:
        try:
            await self._backlog.put_aside_conflict(event, there)
        except SpoolError as error:
            problem = "it is a conflict, and can't be put in quarantine"
            self._drop([event], problem, told=f"{problem}: {error}")

    def _is_spooled(self) -> bool:
        return self._intake.batch_is_spooled

    def _place_spooled(self, batch: Sequence[Queued]) -> None:
        self._counts["spooled"] += len(batch)
        for queued in batch:
            queued.place(SPOOLED)
        self._backlog.wake()

    async def _isolate(self, batch: Sequence[Queued], error: EventRefused, until: float) -> None:
        """Halve a refused batch until the event that the store refuses stands alone."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._deliver(batch[:middle], until)
            await self._deliver(batch[middle:], until)
            return
        try:
            refused = await self._backlog.quarantine(batch[0].event, error)
        except SpoolError as spool_error:
            self._fail(batch, NotDurable(f"{error}; and no quarantine: {spool_error}"))
            return
        batch[0].place(Placement("lost", error=refused))

    # --- overflow

    def _make_room(self) -> bool:
        """Have the full queue moved to the spool; False if what comes now must be dropped."""
        intake, settings = self._intake, self._settings
        if settings.overflow != "spool":
            return False
        if intake.begin_spilling():
            # In the spool's thread, however busy the event loop is kept.
            self._backlog.submit(self._spill)
        return (
            intake.emitted < _AT_MOST * settings.max_queue
            and intake.emitted_bytes < _AT_MOST * settings.max_queue_bytes
        )

    def _spill(self) -> None:
        """Move what is queued to the spool, in that thread; where that fails it stays queued."""
        moved: list[Queued] = []
        try:
            moved = self._intake.spill(self._backlog.append_here)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            self._diagnostics.report(
                logging.ERROR, "spill", "the queue is full, and the spool fails: %s", error
            )
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._spilled, moved)

    def _spilled(self, moved: Sequence[Queued]) -> None:
        self._place_spooled(moved)
        self._flushed()
        self._wake.set()

    # --- losses

    def _fail(self, batch: Sequence[Queued], error: NotDurable) -> None:
        """Nothing could take the batch: count it, and tell those who wait."""
        for queued in batch:
            queued.place(Placement("lost", error=error))
        self._drop([queued.event for queued in batch], _NO_PLACE, told=str(error))

    def _drop(self, events: Sequence[Sealed], reason: str, told: str | None = None) -> None:
        """Count them lost; what is `told` names hosts and paths, and is not for their tenants."""
        self._losses.count(events, reason)
        self._diagnostics.report(logging.ERROR, "lost", "events are lost: %s", told or reason)

    async def _record_losses(self) -> None:
        """Record what was lost, now that something may take it; what nothing takes is kept."""
        taken = self._losses.take()
        events = [event for _, event in taken]
        try:
            until = self._loop.time() + self._settings.deadline
            if taken and not await self._backlog.take(events, until=until):
                await self._backlog.store(events, self._settings.deadline)
        except asyncio.CancelledError:
            self._losses.keep(taken)  # they may be stored: tried again, they are the same events
            raise
        except Exception as error:  # noqa: BLE001 - recording must go on, whatever it is
            try:
                await self._backlog.append(events)
            except SpoolError as spool_error:
                self._losses.put_back([loss for loss, _ in taken])
                self._diagnostics.report(
                    logging.ERROR, "loss", "not noted yet: %s; %s", error, spool_error
                )
