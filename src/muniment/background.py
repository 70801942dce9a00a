"""What runs behind an open log: recorder, indexer and sequencer, over an opening store."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Self

from muniment.diagnostics import Diagnostics
from muniment.errors import StoreError, StoreUnavailable
from muniment.indexer import Indexer
from muniment.losses import Losses
from muniment.recorder import Recorder, Settings
from muniment.sequencer import Sequencer, SequencerOptions, make_sequencer
from muniment.spool import Spool
from muniment.stores.base import Store
from muniment.watching import Snapshot


class Background:
    """What has begun behind a log. It belongs to this process and event loop."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        losses: Losses,
        *,
        recorder: Recorder,
        indexer: Indexer,
        sequencer: Sequencer | None,
    ) -> None:
        self._store = store
        self._spool = spool
        self._losses = losses
        self._indexer = indexer
        self._sequencer = sequencer
        self._opening: asyncio.Future[None] | None = None
        self.recorder = recorder
        self.process = os.getpid()

    @classmethod
    async def start(
        cls,
        store: Store,
        spool: Spool,
        *,
        settings: Settings,
        sequencing: SequencerOptions | None,
        losses: Losses,
        diagnostics: Diagnostics,
        insist: bool,
    ) -> Self:
        """Open the store, and begin. Unless we `insist` on a good one, events go to the spool.

        So it is then for a store that must be refused, and for one that has not opened after
        `settings.deadline` seconds; it goes on opening meanwhile.
        """
        opening = asyncio.ensure_future(store.open())
        indexer = Indexer(store, diagnostics=diagnostics)
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait({opening}, timeout=None if insist else settings.deadline)
            if opening.done():
                opening.result()
            else:
                indexer.store_error = "it is not open yet"
        except StoreError as error:
            indexer.store_error = str(error)
            if insist and not isinstance(error, StoreUnavailable):
                await store.close()
                raise
            diagnostics.report(logging.WARNING, "store", "the store is not open yet: %s", error)
        except BaseException:
            opening.cancel()
            await store.close()
            raise
        recorder = Recorder(
            store,
            spool,
            settings=settings,
            diagnostics=diagnostics,
            losses=losses,
            on_stored=indexer.recorded,
        )
        sequencer: Sequencer | None = None
        if sequencing is not None:
            sequencer = make_sequencer(store.trees, sequencing, diagnostics=diagnostics)
        begun = cls(store, spool, losses, recorder=recorder, indexer=indexer, sequencer=sequencer)
        begun._opening = opening
        await recorder.start(spooling=not opening.done())
        opening.add_done_callback(lambda _: recorder.look_again())
        indexer.start()
        if sequencer is not None:
            sequencer.start()
        return begun

    def snapshot(self) -> Snapshot:
        """What goes on now; from any thread, and without waiting for anything."""
        recorder, spool = self.recorder, self._spool
        recorder.recount()  # for the next time: a disk may take long
        return Snapshot(
            waiting=recorder.waiting,
            waiting_bytes=recorder.waiting_bytes,
            is_spooling=recorder.is_spooling,
            counts=recorder.counts,
            batch_events=recorder.batch_events,
            commit_seconds=recorder.commit_seconds,
            store_error=recorder.store_error or self._indexer.store_error,
            spool_directory=spool.directory,
            pending=spool.pending,
            pending_bytes=spool.pending_bytes,
            oldest_seconds=spool.oldest_age(),
            damaged=spool.damaged,
            quarantined=spool.quarantined,
            drop_seconds=self._losses.seconds_since_last,
            unnoted_losses=bool(self._losses),
            sequencing=None if self._sequencer is None else self._sequencer.state(),
        )

    async def store_figures(self, seconds: float) -> dict[str, Any]:
        """The store's own figures, or why it gives none within so many seconds."""
        try:
            return dict(await self.recorder.in_time(self._store.stats(), seconds))
        except StoreError as error:
            return {"unavailable": str(error)}

    async def close(self) -> None:
        """Make everything durable that was recorded, and release the store."""
        try:
            await self.recorder.close()
        finally:
            try:
                try:
                    await self._indexer.close()
                finally:
                    if self._sequencer is not None:
                        await self._sequencer.close()
            finally:
                if self._opening is not None:
                    self._opening.cancel()
                await self._store.close()
