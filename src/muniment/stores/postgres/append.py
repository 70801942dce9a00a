"""Writes events through a PostgreSQL connection: ours, or one in the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from muniment.event_id import lowest_id_at, time_of
from muniment.stores.base import Sealed, StoredEvent

COLUMNS: Final = ("tenant_id", "event_id", "leaf_hash", "terms", "body")
INSERT: Final = (
    "INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body) "
    "SELECT * FROM unnest($1::text[], $2::uuid[], $3::bytea[], $4::text[], $5::text[])"
)
_NEW_ONLY: Final = f"{INSERT} ON CONFLICT DO NOTHING RETURNING tenant_id, event_id"
STORED: Final = "SELECT tenant_id, event_id, leaf_hash, body FROM muniment.events"
_GET_MANY: Final = (
    f"{STORED} WHERE (tenant_id, event_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))"
)


class KnownPartitions:
    """The months whose partitions are known to be there."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, str]] = []

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
    return {n: found[key] for key, several in places.items() for n in several}


async def _resolve_keys(connection: Any, batch: Sequence[Sealed]) -> dict[int, str]:
    """The event_id that each idempotency key without a source time stands for, by `id(event)`."""
    keyed = [event for event in batch if event.key is not None]
    if not keyed:
        return {}
    tenants, keys = [e.tenant_id for e in keyed], [e.key for e in keyed]
    await connection.execute(
        "INSERT INTO muniment.idempotency_keys (tenant_id, key, event_id) "
        "SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) ON CONFLICT DO NOTHING",
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


def transposed(batch: Sequence[Sealed]) -> list[list[Any]]:
    """The values of `COLUMNS`, column by column, as unnest takes them."""
    return [list(column) for column in zip(*map(columns_of, batch), strict=True)] or [
        [],
        [],
        [],
        [],
        [],
    ]


def stored(row: Any) -> StoredEvent:
    """The event of (tenant_id, event_id, leaf_hash, body)."""
    return StoredEvent(row[0], str(row[1]), row[2], row[3])
