"""Writes events through a PostgreSQL connection: ours, or one in the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from muniment.errors import EventRefused, StoreError
from muniment.event_id import lowest_id_at, time_of
from muniment.stores.base import Sealed, StoredEvent
from muniment.stores.borrowed import driver_connection

COLUMNS: Final = ("tenant_id", "event_id", "leaf_hash", "terms", "body")
# All arrays are of text: asyncpg knows them, where it would look up others in the catalog first.
INSERT: Final = (
    "INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body) "
    "SELECT tenant_id, event_id::uuid, decode(leaf_hash, 'hex'), terms, body "
    "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
    "AS given (tenant_id, event_id, leaf_hash, terms, body)"
)
_NEW_ONLY: Final = f"{INSERT} ON CONFLICT DO NOTHING RETURNING tenant_id, event_id"
STORED: Final = "SELECT tenant_id, event_id, leaf_hash, body FROM muniment.events"
_GET_MANY: Final = (
    f"{STORED} WHERE (tenant_id, event_id) IN "
    "(SELECT t, e::uuid FROM unnest($1::text[], $2::text[]) AS given (t, e))"
)


class KnownPartitions:
    """The months whose partitions are known to be there. All before 2020 always are."""

    def __init__(self) -> None:
        self._spans = [("", _id_text(datetime(2020, 1, 1, tzinfo=UTC)))]

    def missing(self, batch: Sequence[Sealed]) -> list[datetime]:
        """The months of the batch's events that are not known; cheap when they all are."""
        ids = [event.event_id for event in batch]
        if not ids or self._knows(min(ids), max(ids)):
            return []
        unknown = (i for i in ids if not self._knows(i, i))
        return sorted({_month_of(time_of(event_id)) for event_id in unknown})

    def add(self, month: datetime) -> None:
        """Remember a month that was made sure of."""
        following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        self._spans.append((_id_text(month), _id_text(following)))

    def _knows(self, first: str, last: str) -> bool:
        return any(low <= first and last < high for low, high in self._spans)


def _month_of(moment: datetime) -> datetime:
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)


def _id_text(moment: datetime) -> str:
    text = lowest_id_at(moment).hex()
    return f"{text[:8]}-{text[8:12]}"


async def append_unless_there(connection: Any, batch: Sequence[Sealed]) -> dict[int, StoredEvent]:
    """Insert what isn't there; what is there already is returned by its place in the batch."""
    ids = await _resolve_keys(connection, batch)
    fresh = [event for event in batch if ids.get(id(event), event.event_id) == event.event_id]
    new = {(row[0], str(row[1])) for row in await connection.fetch(_NEW_ONLY, *transposed(fresh))}
    if len(new) == len(batch):
        return {}
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for n, event in enumerate(batch):
        key = (event.tenant_id, ids.get(id(event), event.event_id))
        if key in new:
            new.discard(key)  # the first of its id is the one that was stored
        else:
            places[key].append(n)
    rows = await connection.fetch(_GET_MANY, [k[0] for k in places], [k[1] for k in places])
    found = {(row[0], str(row[1])): stored(row) for row in rows}
    for tenant_id, event_id in places.keys() - found.keys():
        msg = (
            f"its idempotency key stands for event {event_id} of {tenant_id!r}, which is not there"
        )
        raise EventRefused(msg)
    return {n: found[key] for key, several in places.items() for n in several}


async def _resolve_keys(connection: Any, batch: Sequence[Sealed]) -> dict[int, str]:
    """The event_id that each idempotency key without a source time stands for, by `id(event)`."""
    keyed = [event for event in batch if event.key is not None]
    if not keyed:
        return {}
    tenants, keys = [e.tenant_id for e in keyed], [e.key for e in keyed]
    await connection.execute(
        "INSERT INTO muniment.idempotency_keys (tenant_id, key, event_id) "
        "SELECT t, k, e::uuid FROM unnest($1::text[], $2::text[], $3::text[]) AS given (t, k, e) "
        "ON CONFLICT DO NOTHING",
        tenants,
        keys,
        [e.event_id for e in keyed],
    )
    rows = await connection.fetch(
        "SELECT tenant_id, key, event_id FROM muniment.idempotency_keys "
        "WHERE (tenant_id, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        tenants,
        keys,
    )
    kept = {(row[0], row[1]): str(row[2]) for row in rows}
    return {id(event): kept[event.tenant_id, cast("str", event.key)] for event in keyed}


def columns_of(event: Sealed) -> tuple[str, str, bytes, str, str]:
    """The values of `COLUMNS`."""
    return (event.tenant_id, event.event_id, event.leaf_hash, event.terms, event.body.decode())


def transposed(batch: Sequence[Sealed]) -> list[list[str]]:
    """The arguments of `INSERT`."""
    return [
        [event.tenant_id for event in batch],
        [event.event_id for event in batch],
        [event.leaf_hash.hex() for event in batch],
        [event.terms for event in batch],
        [event.body.decode() for event in batch],
    ]


def stored(row: Any) -> StoredEvent:
    """The event of (tenant_id, event_id, leaf_hash, body)."""
    return StoredEvent(row[0], str(row[1]), row[2], row[3])


async def in_transaction(connection: Any) -> Any:
    """The asyncpg connection under the caller's, which must be in a transaction."""
    raw = await driver_connection(connection, is_begun=lambda raw: raw.is_in_transaction())
    if not hasattr(raw, "is_in_transaction"):
        msg = (
            "connection: a log in PostgreSQL needs an asyncpg connection, or an AsyncSession or "
            f"AsyncConnection over asyncpg, not {type(connection).__name__}"
        )
        raise StoreError(msg)
    if not raw.is_in_transaction():
        msg = "connection: it is in no transaction; begin one, for record_in commits with it"
        raise StoreError(msg)
    return raw
