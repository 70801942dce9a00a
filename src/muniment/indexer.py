"""Keeps a store's index of terms and its counts close behind its events, when there is room."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from muniment.diagnostics import Diagnostics
from muniment.errors import StoreError
from muniment.stores.base import Store

_SETTLE: Final = 0.05
_FAST: Final = 100
"""Events between two looks: some 2,000 a second."""
_CALM: Final = 4
"""Looks without many events: long lists come with pauses in which the next one is sealed."""
_RETRY: Final = 1.0
_PATROL: Final = 2.0
_PATIENCE: Final = 1.0


class Indexer:
    """Indexes and counts what was recorded, in small steps.

    Only searches and counts depend on it, and only for their speed. While much is recorded it gives
    way, until `most_behind` events wait. It looks round every few seconds for what other processes
    left.
    """

    def __init__(
        self,
        store: Store,
        *,
        diagnostics: Diagnostics,
        most_behind: int = 200_000,
    ) -> None:
        self._store = store
        self._diagnostics = diagnostics
        self._most_behind = most_behind
        self.store_error: str | None = None
        """Why the store failed when it was last asked to index."""
        self._behind = 1
        self._uncounted = 1
        self._came = 0
        self._calm_looks = 0
        self._wake = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.create_task(self._run(), name="muniment-indexer")

    def recorded(self, count: int) -> None:
        """Say that `count` events were stored."""
        self._behind += count
        self._uncounted += count
        self._came += count
        self._wake.set()

    async def close(self, *, catch_up: float = 1.0) -> None:
        """Stop, after indexing and counting for up to `catch_up` seconds what is left.

        A store that hangs holds nobody up: its own `close` ends what is at it.
        """
        if self._task is None:
            return
        self._is_closing = True
        self._task.cancel()  # which the store's driver may lose on its way
        stopped, _ = await asyncio.wait({self._task}, timeout=_PATIENCE)
        self._task = None
        if not stopped:
            return
        last = asyncio.create_task(self._catch_up())
        done, _ = await asyncio.wait({last}, timeout=catch_up)
        if not done:
            last.cancel()

    async def _catch_up(self) -> None:
        try:
            while await self._store.index_pending(self._store.index_step):
                pass
            while await self._store.counts.count_pending(self._store.counts.step):
                pass
        except StoreError:
            return  # the next process that records goes on from here

    async def _run(self) -> None:
        while not self._is_closing:
            try:
                await self._step()
            except Exception as error:  # noqa: BLE001 - whatever it is, indexing must go on
                self.store_error = str(error) or repr(error)
                self._diagnostics.report(logging.WARNING, "index", "indexing waits: %s", error)
                await asyncio.sleep(_RETRY)

    async def _step(self) -> None:
        if self._behind < self._most_behind and self._is_recording_fast():
            await asyncio.sleep(_SETTLE)
            return
        self._wake.clear()  # before we look: what is recorded from here on wakes us again
        done = await self._store.index_pending(self._store.index_step)
        self.store_error = None
        self._behind = max(0, self._behind - done)
        counted = await self._count(is_indexed=done < self._store.index_step)
        if 0 < done < self._store.index_step or 0 < counted < self._store.counts.step:
            # Caught up: a commit for each few events would cost more than recording them.
            await asyncio.sleep(_SETTLE)
        if done == counted == 0:
            self._behind = 0
            try:
                await asyncio.wait_for(self._wake.wait(), _PATROL)
            except TimeoutError:
                return
            await asyncio.sleep(_SETTLE)

    async def _count(self, *, is_indexed: bool) -> int:
        """Count what was recorded, once it is indexed or much of it."""
        step = self._store.counts.step
        if not is_indexed and self._uncounted < step:
            return 0
        counted = await self._store.counts.count_pending(step)
        self._uncounted = max(0, self._uncounted - counted) if counted else 0
        return counted

    def _is_recording_fast(self) -> bool:
        """Whether indexing would hold up recording: a step takes the store for a while."""
        came, self._came = self._came, 0
        self._calm_looks = 0 if came > _FAST else self._calm_looks + 1
        return self._calm_looks < _CALM
