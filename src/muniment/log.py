"""The audit log: record an event where something happens, find it again later."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, Unpack

from muniment.action_scope import ActionScope, scope
from muniment.actions import Catalogue, standard_catalogue
from muniment.background import Background
from muniment.canonical import MAX_DETAILS_BYTES
from muniment.checks import check_id
from muniment.config import above_zero, default_spool_directory, one_of
from muniment.diagnostics import Diagnostics
from muniment.errors import (
    Conflict,
    InvalidConfig,
    InvalidEvent,
    LogClosed,
    MunimentError,
    WrongProcess,
)
from muniment.event import SYSTEM_TENANT, Event
from muniment.intake import STORED, Placement
from muniment.losses import LOSS_ACTION, Losses
from muniment.processors import Processor
from muniment.reading import ReadableLog
from muniment.receipts import Receipt, lost_receipt, receipt_for, receipts_for, settled
from muniment.recorder import Settings
from muniment.sealing import EventFields, Sealer, given, utc_now
from muniment.searching import Searcher
from muniment.sequencer import DEFAULT_INTERVAL, sequencer_options
from muniment.spool import Spool
from muniment.stores import open_store
from muniment.stores.base import Sealed, Store
from muniment.watching import Health, Snapshot, health_of

if TYPE_CHECKING:  # `cryptography` is loaded only where there is a key to sign with
    from muniment.keys import SigningKey, VerifyingKey

OnError = Literal["raise", "log"]
_SEALED_AT_ONCE: Final = 500


class AuditLog(ReadableLog):
    """An audit log over a store. Make one with `AuditLog.open` and use it with `async with`.

    It belongs to the process and event loop in which it was opened; `emit` may be called from any
    thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        tenant_id: str | None = None,
        on_error: OnError = "raise",
        processors: Sequence[Processor] = (),
        catalogue: Catalogue | None = None,
        spool_dir: str | Path | None = None,
        deadline: float = 2.0,
        max_batch: int = 2_000,
        max_queue: int = 20_000,
        overflow: Literal["spool", "drop"] = "spool",
        max_details_bytes: int = MAX_DETAILS_BYTES,
        sequence: bool = True,
        sequence_interval: float = DEFAULT_INTERVAL,
        signing_keys: Sequence[SigningKey] | None = None,
        anchors: Sequence[str] | None = None,
        clock: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Use a store that is not open yet; the options are those of `open`."""
        one_of("on_error", on_error, ("raise", "log"))
        one_of("overflow", overflow, ("spool", "drop"))
        above_zero(
            deadline=deadline,
            max_batch=max_batch,
            max_queue=max_queue,
            max_details_bytes=max_details_bytes,
        )
        if tenant_id is not None:
            try:
                check_id("tenant_id", tenant_id)
            except InvalidEvent as error:
                raise InvalidConfig(str(error)) from None
        self.store = store
        self.catalogue = catalogue or standard_catalogue()
        self.deadline = deadline
        self._tenant_id = tenant_id
        self._on_error: OnError = on_error
        self._diagnostics = Diagnostics()
        self._sealer = Sealer(
            tenant_id=tenant_id,
            processors=processors,
            max_details_bytes=max_details_bytes,
            clock=clock,
            entropy=entropy,
        )
        losses = Sealer(clock=clock, entropy=entropy)
        self._losses = Losses(lambda loss: losses.seal_call(LOSS_ACTION, loss.fields()), clock)
        self._searcher = Searcher(store, self.catalogue, tenant_id=tenant_id, clock=clock)
        self._spool = Spool(Path(spool_dir) if spool_dir else default_spool_directory(store.url))
        self._settings = Settings(
            deadline=deadline, max_batch=max_batch, max_queue=max_queue, overflow=overflow
        )
        self._sequencing = (
            sequencer_options(keys=signing_keys, anchors=anchors, interval=sequence_interval)
            if sequence
            else None
        )
        self._background: Background | None = None

    @classmethod
    def open(cls, url: str, *, store_options: dict[str, Any] | None = None, **options: Any) -> Self:
        """A log over the store that `url` names: `async with AuditLog.open(url) as log:`.

        Options: `tenant_id` binds the log to one tenant; `on_error` is "raise" (fail closed) or
        "log" (never break the caller); `processors` run over each event; `deadline` (seconds) is
        how long the store may take before events go to the spool in `spool_dir`; `overflow` is
        what `emit` does when `max_queue` events wait ("spool" or "drop", which is counted);
        `sequence`: whether to give events their leaves, every `sequence_interval` seconds;
        `signing_keys` sign the checkpoints, and `anchors` (URLs) get them: unless given, those of
        the environment; `store_options` go to the store. Raises `InvalidConfig`; entering it raises
        `SchemaMismatch` or `UnsafeStore` if the store can't keep its word. A store that can't be
        reached is no error: events go to the spool until it can.
        """
        try:
            store = open_store(url, **(store_options or {}))
            return cls(store, **options)
        except TypeError as error:
            msg = f"options: {error}"
            raise InvalidConfig(msg) from None

    # --- life

    async def __aenter__(self) -> Self:
        return await self._start()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._start().__await__()

    async def _start(self, *, insist: bool = True) -> Self:
        if self._background is not None:
            msg = "The log is open already."
            raise LogClosed(msg)
        self._background = await Background.start(
            self.store,
            self._spool,
            settings=self._settings,
            sequencing=self._sequencing,
            losses=self._losses,
            diagnostics=self._diagnostics,
            insist=insist,
        )
        return self

    async def close(self) -> None:
        """Make everything durable that was recorded or emitted, and release the store.

        Safe to call twice. What the store can't take now stays in the spool.
        """
        background = self._background
        if background is not None and background.process == os.getpid():
            self._background = None
            await background.close()
            self._diagnostics.tell_rest()

    async def flush(self) -> None:
        """Return once everything emitted so far is durable, in the store or in the spool."""
        await self._opened().recorder.flush()

    # --- recording

    async def record(
        self,
        action: str | Event,
        *,
        on_error: OnError | None = None,
        **fields: Unpack[EventFields],
    ) -> Receipt:
        """Record one event, durably before it returns, and get its `Receipt`.

        Takes the event's fields, or an `Event`. Recording the same event again (the same
        `event_id` or `idempotency_key`) stores nothing and returns the first one's receipt.
        Raises `InvalidEvent` for bad input, `Conflict` if the first one differs, `EventRefused`
        if the store won't have it, `NotDurable` if neither store nor spool could take it; under
        `on_error="log"` these are logged instead, and the receipt says "lost".
        """
        what = given(fields)
        recorder = self._opened().recorder
        raises = (on_error or self._on_error) == "raise"
        try:
            sealed = self._seal(action, what)
        except MunimentError as error:
            if raises:
                raise
            self._lose(action, what, error)
            return lost_receipt(None)
        (placement,) = await recorder.submit((sealed,)).future
        try:
            return receipt_for(sealed, placement)
        except MunimentError as error:
            recorder.count_conflicts([error])
            if raises:
                raise
            self._diagnostics.report(logging.ERROR, "record", "%s", error)
            return lost_receipt(sealed)

    async def record_many(
        self, events: Iterable[Event], *, on_error: OnError | None = None
    ) -> list[Receipt]:
        """Record events together, in order, durably before it returns; one `Receipt` for each.

        All are checked before any is stored. Raises as `record` does, once every event that can
        be stored is.
        """
        recorder = self._opened().recorder
        raises = (on_error or self._on_error) == "raise"
        sealed: list[Sealed | None] = []
        for n, event in enumerate(events):
            if n % _SEALED_AT_ONCE == _SEALED_AT_ONCE - 1:
                await asyncio.sleep(0)  # a long list must not hold up the loop
            try:
                sealed.append(self._sealer.seal(event))
            except MunimentError as error:
                if raises:
                    raise
                self._lose(event, {}, error)
                sealed.append(None)
        ticket = recorder.submit([event for event in sealed if event is not None])
        receipts, failures = receipts_for(sealed, await ticket.future)
        recorder.count_conflicts(failures)
        if failures and raises:
            raise failures[0]
        for failure in failures:
            self._diagnostics.report(logging.ERROR, "record", "%s", failure)
        return receipts

    @property
    def sealer(self) -> Sealer:
        """Makes events ready for `record_sealed`."""
        return self._sealer

    async def record_sealed(self, events: Sequence[Sealed]) -> list[Placement]:
        """Record events together, durably before it returns; where each of them ended.

        An `error` says why one is lost, as `record` would raise it; the others are not.
        """
        recorder = self._opened().recorder
        placements = await recorder.submit(events).future
        if placements.count(STORED) < len(placements):
            placements = [settled(*both) for both in zip(events, placements, strict=True)]
            recorder.count_conflicts([p.error for p in placements if p.error is not None])
        return placements

    def emit(
        self,
        action: str | Event,
        *,
        on_error: OnError | None = None,
        **fields: Unpack[EventFields],
    ) -> None:
        """Queue one event and return at once; it is durable after `flush`, or an orderly `close`.

        Takes a snapshot: what the caller changes afterwards changes nothing. May be called from
        any thread. Raises `InvalidEvent` unless `on_error` is "log".
        """
        what = given(fields)
        recorder = self._opened().recorder
        try:
            if isinstance(action, str):
                recorder.offer(self._sealer.draft_call(action, what))
            else:
                recorder.offer(self._seal(action, what))
        except MunimentError as error:
            if (on_error or self._on_error) == "raise":
                raise
            self._lose(action, what, error)

    async def record_in(
        self, connection: Any, action: str | Event, **fields: Unpack[EventFields]
    ) -> Receipt:
        """Record one event in the caller's own transaction: it commits or rolls back with it.

        `connection` is an SQLAlchemy `AsyncSession` or `AsyncConnection` over the log's own
        database, or an asyncpg connection in a transaction. `fields` are those of `record`.
        Raises always, whatever `on_error` says: the transaction is the caller's to decide on.
        """
        recorder = self._opened().recorder
        sealed = self._seal(action, given(fields))
        already = await self.store.append_in(connection, sealed)
        try:
            return receipt_for(sealed, Placement("transaction", already))
        except Conflict as error:
            recorder.count_conflicts([error])
            raise

    @asynccontextmanager
    async def action(
        self, action: str, *, on_error: OnError | None = None, **fields: Unpack[EventFields]
    ) -> AsyncIterator[ActionScope]:
        """Record one event when the block ends, with its outcome, duration and error.

        The block may set `outcome`, `reason`, `targets` and `details` on what it is given. An
        exception makes the outcome `failure` (`denied` for a `PermissionError`), becomes the
        reason, and passes through.
        """

        async def record(action: str, finished: dict[str, Any]) -> None:
            await self.record(action, on_error=on_error, **finished)

        async with scope(record, action, given(fields)) as running:
            yield running

    # --- watching

    async def stats(self) -> dict[str, dict[str, Any]]:
        """Figures of the store, the queue, the commits and the spool, ready for JSON."""
        background = self._opened()
        store = await background.store_figures(self.deadline)
        return {"store": store, **background.snapshot().figures()}

    def health(
        self, *, spool_age: float = 300.0, drop_age: float = 300.0, lag_age: float = 60.0
    ) -> Health:
        """How the log does, at once and from any thread, without asking the store.

        "degraded" while events go to the spool, the store or an anchor fails, something lies in
        quarantine or damaged, or an event waits for its leaf for more than `lag_age` seconds;
        "failing" if the log is not open, an event has waited in the spool for more than
        `spool_age` seconds, or one was lost less than `drop_age` seconds ago.
        """
        return health_of(self.snapshot(), spool_age=spool_age, drop_age=drop_age, lag_age=lag_age)

    def snapshot(self) -> Snapshot | None:
        """The figures that take no waiting, from any thread; None if not open in this process."""
        background = self._background
        if background is None or background.process != os.getpid():
            return None
        return background.snapshot()

    @property
    def verifying_keys(self) -> tuple[VerifyingKey, ...]:
        """What verifies the checkpoints that this log signs; none if it signs none itself."""
        keys = self._sequencing.keys if self._sequencing is not None else ()
        return tuple(key.verifier for key in keys)

    # --- how it is done

    def _lose(self, action: str | Event, fields: dict[str, Any], error: MunimentError) -> None:
        """Count and log an event that can't be recorded and may not break its caller."""
        tenant_id = action.tenant_id if isinstance(action, Event) else fields.get("tenant_id")
        if not isinstance(tenant_id, str) or self._tenant_id is not None:
            tenant_id = self._tenant_id
        self._opened().recorder.lose(tenant_id or SYSTEM_TENANT, str(error))
        self._diagnostics.report(logging.ERROR, "record", "an event is lost: %s", error)

    def _seal(self, action: str | Event, fields: dict[str, Any]) -> Sealed:
        if isinstance(action, Event):
            if fields:
                msg = "with an Event, give no other fields"
                raise InvalidConfig(msg)
            return self._sealer.seal(action)
        return self._sealer.seal_call(action, fields)

    def _spool_at_once(self, event: Event) -> None:
        """Put an event into the spool, without an open log. Raises `InvalidEvent`, `SpoolError`."""
        try:
            self._spool.append([self._sealer.seal(event)])
        finally:
            self._spool.close()

    def _check_open(self) -> None:
        self._opened()

    def _opened(self) -> Background:
        if self._background is None:
            raise LogClosed
        if self._background.process != os.getpid():
            raise WrongProcess
        return self._background
