"""Keeps a store's index of terms close behind its events, when recording leaves room for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from muniment.diagnostics import Diagnostics
from muniment.errors import StoreError
from muniment.stores.base import Store

_SETTLE: Final = 0.05
_RETRY: Final = 1.0
_PATROL: Final = 2.0


class Indexer:
    """Indexes what was recorded, in small steps; `is_busy` says when recording should go first.

    Only searches depend on it, and only for their speed. It gives way to recording until
    `most_behind` events wait, and looks round every few seconds for what other processes left.
    """

    def __init__(
        self,
        store: Store,
        *,
        is_busy: Callable[[], bool],
        diagnostics: Diagnostics,
        most_behind: int = 200_000,
    ) -> None:
        self._store = store
        self._is_busy = is_busy
        self._diagnostics = diagnostics
        self._most_behind = most_behind
        self._behind = 1
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.create_task(self._run(), name="muniment-indexer")

    def recorded(self, count: int) -> None:
        """Say that `count` events were stored."""
        self._behind += count
        self._wake.set()

    async def close(self, *, catch_up: float = 1.0) -> None:
        """Stop, after indexing for up to `catch_up` seconds what is left."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        last = asyncio.create_task(self._catch_up())
        done, _ = await asyncio.wait({last}, timeout=catch_up)
        if not done:
            last.cancel()

    async def _catch_up(self) -> None:
        try:
            while await self._store.index_pending(self._store.index_step):
                pass
        except StoreError:
            return  # the next process that records goes on from here

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except StoreError as error:
                self._diagnostics.report(logging.WARNING, "index", "indexing waits: %s", error)
                await asyncio.sleep(_RETRY)

    async def _step(self) -> None:
        if self._is_busy() and self._behind < self._most_behind:
            await asyncio.sleep(_SETTLE)
            return
        done = await self._store.index_pending(self._store.index_step)
        self._behind = max(0, self._behind - done)
        if done == 0:
            self._behind = 0
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), _PATROL)
            except TimeoutError:
                return
            await asyncio.sleep(_SETTLE)
