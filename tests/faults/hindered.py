"""Real stores that are hindered: one that fails now and then, one that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from muniment.stores.base import Sealed, Store, StoredEvent
from muniment.testing import FaultyStore

_PAUSE: Final = 0.002


class EveryThirdFails(FaultyStore):
    """Every third append fails: half of these have stored nothing, half have stored all."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._calls = 0

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        """Append to the real store, or fail."""
        self._calls += 1
        if self._calls % 6 == 3:
            self.fail(times=1)
        elif self._calls % 6 == 0:
            self.fail_but_store(times=1)
        return await super().append(batch)


class SlowStore(FaultyStore):
    """Takes `rate` events a second, and so many in all as it `may_take`; without these, all."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.rate: float | None = None
        self.may_take: Callable[[int], bool] = lambda _: True
        self._taken = 0

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        """Append to the real store, not too fast."""
        if self.rate is not None:
            await asyncio.sleep(len(batch) / self.rate)
        while not self.may_take(self._taken + len(batch)):  # noqa: ASYNC110 - of the test
            await asyncio.sleep(_PAUSE)
        self._taken += len(batch)
        return await super().append(batch)
