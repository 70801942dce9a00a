"""What runs behind an open log: the recorder and the indexer, over an opening store."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Self

from muniment.diagnostics import Diagnostics
from muniment.errors import StoreError, StoreUnavailable
from muniment.indexer import Indexer
from muniment.losses import Losses
from muniment.recorder import Recorder, Settings
from muniment.spool import Spool
from muniment.stores.base import Store


class Background:
    """A recorder and an indexer that have begun. They belong to this process and event loop."""

    def __init__(self, store: Store, recorder: Recorder, indexer: Indexer) -> None:
        self._store = store
        self._indexer = indexer
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
        losses: Losses,
        diagnostics: Diagnostics,
        insist: bool,
    ) -> Self:
        """Open the store, and begin. Unless we `insist` on a good one, events go to the spool.

        So it is then for a store that must be refused, and for one that has not opened after
        `settings.deadline` seconds; it goes on opening meanwhile.
        """
        opening = asyncio.ensure_future(store.open())
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait({opening}, timeout=None if insist else settings.deadline)
            if opening.done():
                opening.result()
        except StoreError as error:
            if insist and not isinstance(error, StoreUnavailable):
                await store.close()
                raise
            diagnostics.report(logging.WARNING, "store", "the store is not open yet: %s", error)
        except BaseException:
            opening.cancel()
            await store.close()
            raise
        indexer = Indexer(store, diagnostics=diagnostics)
        recorder = Recorder(
            store,
            spool,
            settings=settings,
            diagnostics=diagnostics,
            losses=losses,
            on_stored=indexer.recorded,
        )
        begun = cls(store, recorder, indexer)
        begun._opening = opening
        await recorder.start(spooling=not opening.done())
        indexer.start()
        return begun

    async def close(self) -> None:
        """Make everything durable that was recorded, and release the store."""
        await self.recorder.close()
        await self._indexer.close()
        if self._opening is not None:
            self._opening.cancel()
        await self._store.close()
