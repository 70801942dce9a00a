"""A store that fails when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muniment.errors import EventRefused, StoreError, StoreUnavailable
from muniment.stores.base import (
    Place,
    SchemaStatus,
    Sealed,
    Selection,
    Sequenced,
    Store,
    StoredEvent,
)
from muniment.stores.counts import Facts
from muniment.testing.faulty_trees import FaultyTrees


class FaultyStore(Store):
    """Passes everything on to a real store, but lets its writes fail, hang or be refused.

    `appended` lists the sizes of the batches that reached the real store. `trees` are told by
    themselves what to do.
    """

    def __init__(self, store: Store) -> None:
        self.url = store.url
        self.index_step = store.index_step
        self.trees: FaultyTrees = FaultyTrees(store.trees)
        self.counts = store.counts
        self.credentials = store.credentials
        self.appended: list[int] = []
        self._store = store
        self._healed = asyncio.Event()
        self.heal()

    # --- what it is told

    def heal(self) -> None:
        """Work again; a call that hangs gets its answer."""
        self._error: StoreError | None = None
        self._times: int | None = None
        self._stores_first = False
        self._refused: Callable[[Sealed], bool] = lambda _: False
        self._healed.set()

    def fail(self, error: StoreError | None = None, *, times: int | None = None) -> None:
        """Let the next `times` appends (None: all) raise `error` and store nothing."""
        self._error = error or StoreUnavailable("the store was told to fail")
        self._times = times
        self._stores_first = False

    def fail_but_store(self, error: StoreError | None = None, *, times: int | None = None) -> None:
        """Let appends store the batch and then raise, as when the answer is lost on its way."""
        self.fail(error, times=times)
        self._stores_first = True

    def hang(self) -> None:
        """Let appends wait until `heal`."""
        self._healed.clear()

    def refuse(self, is_refused: Callable[[Sealed], bool]) -> None:
        """Let appends of a batch with such an event raise `EventRefused`."""
        self._refused = is_refused

    # --- a store's methods

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        """Append to the real store, or fail."""
        await self._healed.wait()
        error = self._next_error()
        if error is not None and not self._stores_first:
            raise error
        if any(map(self._refused, batch)):
            raise EventRefused("the store was told to refuse this event")
        already = await self._store.append(batch)
        self.appended.append(len(batch))
        if error is not None:
            raise error
        return already

    def _next_error(self) -> StoreError | None:
        if self._times is not None:
            if self._times == 0:
                return None
            self._times -= 1
        return self._error

    async def open(self) -> None:
        """Open the real store."""
        await self._store.open()

    async def close(self) -> None:
        """Close the real store."""
        await self._store.close()

    async def append_in(self, connection: Any, event: Sealed) -> StoredEvent | None:
        """Append to the real store."""
        return await self._store.append_in(connection, event)

    async def get(self, event_id: str, tenant_id: str | None) -> StoredEvent | None:
        """Get from the real store."""
        return await self._store.get(event_id, tenant_id)

    async def get_many(self, event_ids: Sequence[str], tenant_id: str) -> list[StoredEvent]:
        """Get from the real store."""
        return await self._store.get_many(event_ids, tenant_id)

    async def select(self, wanted: Selection) -> list[StoredEvent]:
        """Select from the real store."""
        return await self._store.select(wanted)

    async def reach(self, wanted: Selection, candidates: int) -> Place | None:
        """How far the real store comes."""
        return await self._store.reach(wanted, candidates)

    async def facts(self, wanted: Selection) -> list[Facts]:
        """Facts from the real store."""
        return await self._store.facts(wanted)

    async def actions(self, tenant_id: str | None) -> list[str]:
        """The actions in the real store."""
        return await self._store.actions(tenant_id)

    async def read(
        self, after: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Sequenced]:
        """Read from the real store."""
        return await self._store.read(after, limit, tenant_id)

    async def position_of(self, event_id: str, tenant_id: str | None) -> str | None:
        """The position in the real store."""
        return await self._store.position_of(event_id, tenant_id)

    async def last_position(self) -> str | None:
        """The last position in the real store."""
        return await self._store.last_position()

    async def index_pending(self, limit: int) -> int:
        """Index the real store."""
        return await self._store.index_pending(limit)

    async def stats(self) -> Mapping[str, Any]:
        """Figures of the real store."""
        return await self._store.stats()

    async def schema_status(self) -> SchemaStatus:
        """The schema of the real store."""
        return await self._store.schema_status()

    async def upgrade(self) -> SchemaStatus:
        """Migrate the real store."""
        return await self._store.upgrade()
