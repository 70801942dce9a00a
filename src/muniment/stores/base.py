"""The Store contract. What a store MUST do is stated here and held by `testing.StoreContract`.

A store keeps sealed events in the order of their recording, finds them by tenant, id and terms,
and never changes them. Events, filters and positions go in and out; connections, SQL and
partitions stay inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from muniment.errors import SchemaMismatch
from muniment.query import Clause, Order
from muniment.stores.counts import Counts, Facts
from muniment.stores.credentials import Credentials
from muniment.stores.trees import Trees


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An event ready to be stored: its body and what is derived from it.

    `may_repeat` says that the id was given or derived, or was tried before, so that an event with
    it may be stored already. `key` is an idempotency key that came without a source time: it is
    resolved through the store's table of keys, to the event it first stood for.
    """

    tenant_id: str
    event_id: str
    body: bytes
    leaf_hash: bytes
    terms: str
    may_repeat: bool = False
    key: str | None = None


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as the store has it. `body` is None once it was erased; the leaf hash stays."""

    tenant_id: str
    event_id: str
    leaf_hash: bytes
    body: str | None


class Sequenced(msgspec.Struct, frozen=True, gc=False):
    """A stored event and its position in the order of recording (opaque, ever growing)."""

    position: str
    stored: StoredEvent


Place = tuple[bytes, str]
"""A place in the order of event_id, then tenant_id: the event_id as 16 bytes, and the tenant_id."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is asked to nominate: bounds, clauses on terms, and where to go on.

    `clauses` are closed (their exact terms are all there are), the one to drive the search first.
    Events that have a term of `without` are not asked for. `since_id` is inclusive and `until_id`
    exclusive, both 16 bytes. `after` is the place behind which to go on, `upto` the last one to
    look at. `text` is lower-cased ASCII-wise and JSON-escaped.
    """

    tenant_id: str | None
    clauses: tuple[Clause, ...] = ()
    without: tuple[str, ...] = ()
    since_id: bytes | None = None
    until_id: bytes | None = None
    text: str | None = None
    after: Place | None = None
    upto: Place | None = None
    order: Order = "newest"
    limit: int = 50


class SchemaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Which schema revision the database has, and which one this version of muniment wants."""

    current: str | None
    wanted: str
    known: bool

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to migrate."""
        return self.current == self.wanted

    def refuse_newer(self) -> None:
        """Raise `SchemaMismatch` if the schema is newer than this version of muniment."""
        if not self.known:
            msg = (
                f"the database has schema {self.current}, newer than {self.wanted}, the newest "
                "that this version of muniment knows: install a newer muniment"
            )
            raise SchemaMismatch(msg)


class Store(ABC):
    """Keeps events. All methods are coroutines; none blocks the event loop.

    Any method MUST raise `StoreUnavailable` when the store can't be reached, `EventRefused` (from
    `append`) when the data and not the store is at fault, and another `StoreError` otherwise.
    """

    url: str
    trees: Trees
    """What it keeps of each tenant's transparency log."""
    counts: Counts
    """How many events it has, by time, action and outcome."""
    credentials: Credentials
    """Who may come in over HTTP."""
    index_step: int = 5000
    """How many events to index at a time."""

    @abstractmethod
    async def open(self) -> None:
        """Connect and check.

        MUST refuse (`SchemaMismatch`, `UnsafeStore`) what can't keep its word.
        A store that can't be reached raises `StoreUnavailable`; `open` may then be tried again,
        and other methods MAY connect by themselves once it can.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release all connections and threads.

        MUST be safe to call twice, and after a failed open.
        """

    @abstractmethod
    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        """Store the batch, all or nothing, in its order, and MUST return only when it is durable.

        An event whose (tenant_id, event_id), or whose key, is stored already (or stands earlier in
        the batch) MUST be left out, and what is stored MUST be returned under its position in the
        batch; an empty mapping says that all were new. Cancelling MAY leave the batch stored.
        """

    @abstractmethod
    async def append_in(self, connection: Any, event: Sealed) -> StoredEvent | None:
        """Store one event inside the transaction of the caller's `connection`.

        Returns what is stored already under its id, or None. MUST NOT commit, roll back, or leave
        the caller's transaction failed on account of a repeated id.
        """

    @abstractmethod
    async def get(self, event_id: str, tenant_id: str | None) -> StoredEvent | None:
        """The event with that id, of that tenant, or of any if None."""

    @abstractmethod
    async def get_many(self, event_ids: Sequence[str], tenant_id: str) -> list[StoredEvent]:
        """Those of a tenant's events that are there, in no order; up to 1,000 ids at a time."""

    @abstractmethod
    async def select(self, wanted: Selection) -> list[StoredEvent]:
        """Up to `limit` events in order of event_id (then tenant_id).

        MUST hold every committed event that satisfies the selection; MAY hold a few that don't.
        MUST NOT use OFFSET or COUNT over the result.
        """

    @abstractmethod
    async def reach(self, wanted: Selection, candidates: int) -> Place | None:
        """How far `select` comes by looking at about so many candidates; None if to the end.

        A candidate is an event that it must look at to know whether to nominate it. Given back as
        `upto`, the place leaves `select` about `candidates` of them, at most a few times as many.
        MUST be behind `after`, and MUST NOT be found by reading bodies. The selection's `limit`
        and `upto` don't count.
        """

    @abstractmethod
    async def facts(self, wanted: Selection) -> list[Facts]:
        """What `select` nominates, in the same order, without the bodies."""

    @abstractmethod
    async def actions(self, tenant_id: str | None) -> list[str]:
        """The distinct actions recorded, of that tenant or of all. MAY hold some that are gone."""

    @abstractmethod
    async def read(
        self, after: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Sequenced]:
        """Up to `limit` events in order of recording, behind `after` (None: from the start).

        MUST NOT return an event while one that will come before it may still become visible.
        """

    @abstractmethod
    async def position_of(self, event_id: str, tenant_id: str | None) -> str | None:
        """The position of an event, or None if there is none."""

    @abstractmethod
    async def last_position(self) -> str | None:
        """The position behind which only events recorded from now on will come."""

    @abstractmethod
    async def index_pending(self, limit: int) -> int:
        """Bring the index of terms up by at most `limit` events; returns how many were done.

        `select` MUST find events that are not indexed yet; this only makes it fast. Returns 0 when
        there is nothing to do or another process is at it.
        """

    @abstractmethod
    async def stats(self) -> Mapping[str, Any]:
        """Cheap figures about the store: events (estimated where counting is dear), bytes, lag."""

    @abstractmethod
    async def schema_status(self) -> SchemaStatus:
        """The state of the schema, without changing it."""

    @abstractmethod
    async def upgrade(self) -> SchemaStatus:
        """Migrate the schema to what this version wants. MUST refuse a newer schema."""
