"""The indexer, over a store that does what a test says."""

from __future__ import annotations

import asyncio
from typing import cast

from muniment.diagnostics import Diagnostics
from muniment.errors import StoreUnavailable
from muniment.indexer import Indexer
from muniment.stores.base import Store


class _LosesCancellation:
    """Hangs, and when it is cancelled says that it failed."""

    index_step = 10

    def __init__(self) -> None:
        self.is_called = asyncio.Event()

    async def index_pending(self, _: int) -> int:
        """Never index anything."""
        self.is_called.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise StoreUnavailable from None
        return 0


async def test_an_indexer_closes_over_a_store_that_loses_its_cancellation() -> None:
    """A driver that turns it into an error of its own does not keep a log from closing."""
    store = _LosesCancellation()
    indexer = Indexer(cast("Store", store), diagnostics=Diagnostics())
    indexer.start()
    await store.is_called.wait()

    await indexer.close(catch_up=0)
