"""The half of an audit log that reads: finds events, follows them, and proves them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from muniment.actions import Catalogue
from muniment.counting import Counted, count
from muniment.errors import InvalidQuery, NotPublished, StoreUnavailable
from muniment.event import Event
from muniment.exporting import Exported, export_evidence
from muniment.proofs import ConsistencyProof, InclusionProof
from muniment.proving import consistency_between, newest_checkpoint, prove_inclusion
from muniment.query import Order, Page
from muniment.receipts import Receipt
from muniment.searching import Searcher
from muniment.stores.base import Store, StoredEvent
from muniment.stores.trees import Published

_LOOK_AGAIN: Final = 0.1


class ReadableLog(ABC):
    """What can be asked of a log. `AuditLog` adds what can be recorded in it."""

    store: Store
    catalogue: Catalogue
    _searcher: Searcher

    @abstractmethod
    def _check_open(self) -> None:
        """Raise `LogClosed` or `WrongProcess` unless the log is open here."""

    # --- finding

    async def search(
        self,
        *,
        tenant_id: str | None = None,
        order: Order = "newest",
        limit: int = 50,
        cursor: str | None = None,
        budget: float | None = None,
        **filters: Any,
    ) -> Page:
        """A page of events, newest (or oldest) first, and the cursor of the next.

        Filters: `action` and `outcome` (one or several; `"role_*"` is a prefix), `category`,
        `actor_type`, `actor_id`, `user_id`, `agent_id`, `target_type`, `target_id`, `request_id`,
        `trace_id`, `run_id`, `since` and `until` (datetime, ISO 8601, or an age such as "24h"),
        `text`. Without `tenant_id` it searches every tenant the log sees.

        Text, and conditions that are seldom true together, may take going through all events. With
        a `budget` (seconds) it ends about then with what was found, maybe nothing: `searched_to`
        says how far it came, and the cursor goes on from there. Raises `InvalidQuery`.
        """
        self._check_open()
        return await self._searcher.search(
            {"tenant_id": tenant_id, **filters},
            order=order,
            limit=limit,
            cursor=cursor,
            budget=budget,
        )

    async def get(self, event_id: str, *, tenant_id: str | None = None) -> Event:
        """The event with that id. Raises `EventNotFound`, for another tenant's event too."""
        self._check_open()
        return await self._searcher.get(event_id, tenant_id)

    async def body(self, event_id: str, *, tenant_id: str | None = None) -> str:
        """The stored body of an event: its canonical JSON. Raises `EventNotFound`."""
        self._check_open()
        return (await self._searcher.stored(event_id, tenant_id)).body or ""

    async def stored(self, event_id: str, *, tenant_id: str | None = None) -> StoredEvent:
        """An event as it is stored: its tenant, its leaf hash, its body (None once it is erased).

        Raises `EventNotFound`.
        """
        self._check_open()
        return await self._searcher.stored(event_id, tenant_id)

    async def actions(self, *, tenant_id: str | None = None) -> list[str]:
        """The actions that a tenant's events have, or all events; maybe some that are gone."""
        self._check_open()
        return await self.store.actions(self._searcher.bound(tenant_id))

    async def tail(
        self,
        *,
        tenant_id: str | None = None,
        after: str | None = None,
        follow: bool = True,
        started: Callable[[], None] = lambda: None,
        **filters: Any,
    ) -> AsyncGenerator[Event, None]:
        """Events in the order of recording, as they come: `async for event in log.tail()`.

        Begins behind the event `after` (an event_id), or with what is recorded from now on;
        `started` is called once that place is known. Ends once it has caught up if `follow` is
        False. Filters are those of `search`. Raises `InvalidQuery`, `EventNotFound`.
        """
        self._check_open()
        found = self._searcher.tail(
            {"tenant_id": tenant_id, **filters}, after=after, follow=follow, started=started
        )
        async for event in found:
            yield event

    async def count(
        self,
        *,
        tenant_id: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        bars: int = 60,
        budget: float = 0.1,
        **filters: Any,
    ) -> Counted:
        """How many events there are, in about so many bars, and the most frequent values.

        By default of the last 7 days. Filters are those of `search`; times count to the
        millisecond. Asked by tenant, action, category, activity and outcome only, whole hours are
        exact however many events there are. All else is counted event by event, for about `budget`
        seconds: what it says then is a lower bound unless `exact`. Erased events count.
        Raises `InvalidQuery`.
        """
        self._check_open()
        given = {"tenant_id": tenant_id, "since": since, "until": until, **filters}
        searcher = self._searcher
        return await count(
            self.store,
            self.catalogue,
            searcher.filter(given),
            now=searcher.now(),
            select=searcher.selection,
            bars=bars,
            budget=budget,
        )

    # --- proving

    async def checkpoint(self, tenant_id: str | None = None) -> Published:
        """A tenant's newest checkpoint: its `note` is the signed text to give to an auditor.

        Raises `NotPublished` if it has none: events are signed for about every second, by any log
        that has a key.
        """
        self._check_open()
        return await newest_checkpoint(self.store.trees, self._tenant(tenant_id))

    async def prove(self, event_id: str, *, tenant_id: str | None = None) -> InclusionProof:
        """Proof that an event is in its tenant's trail, under the newest checkpoint.

        `text()` is what anybody can check offline (C2SP tlog-proof), `verify` does it. Raises
        `EventNotFound`, and `NotPublished` while no checkpoint covers the event.
        """
        self._check_open()
        found = await self._searcher.stored(event_id, tenant_id)
        return await prove_inclusion(self.store.trees, found.tenant_id, event_id)

    async def prove_consistency(
        self,
        old: int | Published,
        new: int | Published | None = None,
        *,
        tenant_id: str | None = None,
    ) -> ConsistencyProof:
        """Proof that nothing in a tenant's older tree was changed, removed or reordered since.

        `old` and `new` are checkpoints or tree sizes; without `new`, up to the newest checkpoint.
        Raises `InvalidQuery` for sizes that the tree never had, and `NotPublished`.
        """
        self._check_open()
        given = {each.tenant_id for each in (old, new) if isinstance(each, Published)}
        if tenant_id is not None:
            given.add(tenant_id)
        if len(given) > 1:
            raise InvalidQuery("tenant_id", "is not the one of both checkpoints")
        tenant = self._tenant(given.pop() if given else None)
        return await consistency_between(self.store.trees, tenant, old, new)

    async def await_published(self, receipt: Receipt, *, within: float = 30.0) -> Published:
        """The first checkpoint seen that covers a recorded event, once there is one.

        Waits for up to `within` seconds, then raises `NotPublished` with what is missing. Nothing
        is lost by that, and it can be called again.
        """
        self._check_open()
        tenant_id = self._tenant(receipt.tenant_id)
        trees, missing = self.store.trees, "the store gave no answer in time"
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        index = await trees.leaf_index(tenant_id, receipt.event_id)
                        newest = await trees.checkpoint(tenant_id)
                    except StoreUnavailable as error:
                        missing = str(error)
                    else:
                        if index is not None and newest is not None and index < newest.tree_size:
                            return newest
                        missing = (
                            "it waits for its leaf, or is not in the store yet"
                            if index is None
                            else f"it is leaf {index}, and no log with a key has signed for it"
                        )
                    await asyncio.sleep(_LOOK_AGAIN)
        except TimeoutError:
            msg = f"event {receipt.event_id} is not published after {within:g} s: {missing}"
            raise NotPublished(msg) from None

    async def export_evidence(
        self,
        path: str | Path,
        *,
        tenant_id: str | None = None,
        old_checkpoint: str | None = None,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
        **filters: Any,
    ) -> Exported:
        """Write one file that holds a tenant's events and proves them: `muniment verify` reads it.

        Filters are those of `search`; events come in the order of recording, those under the newest
        checkpoint. With an `old_checkpoint` (its signed note) the file proves that nothing of then
        was changed since. The file is whole and durable on return, or not there; one that is there
        is replaced. `progress` is told how much of twice the leaves is done. Raises `InvalidQuery`,
        `NotPublished`, and `VerificationError` if the store no longer holds what was signed.
        """
        self._check_open()
        wanted = self._searcher.filter({"tenant_id": self._tenant(tenant_id), **filters})
        return await export_evidence(
            self.store,
            path,
            wanted,
            category_of=self.catalogue.category_of,
            old_checkpoint=old_checkpoint,
            described=msgspec.to_builtins(wanted),
            progress=progress,
        )

    def _tenant(self, given: str | None) -> str:
        tenant_id = self._searcher.bound(given)
        if tenant_id is None:
            raise InvalidQuery("tenant_id", "is needed: each tenant has a tree of its own")
        return tenant_id
