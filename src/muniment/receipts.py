"""Receipts: what became of a recorded event, and whether it is the one that was stored before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from muniment.canonical import decode
from muniment.errors import Conflict, MunimentError
from muniment.event import Event
from muniment.intake import Placement
from muniment.stores.base import Sealed, StoredEvent

_LOGS_OWN: Final = ("recorded_at", "salt", "stamped", "schema_version")
_json = msgspec.json.Encoder(order="sorted").encode
Place = Literal["store", "spool", "transaction", "lost"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What `record` returns: the event's id, its leaf hash, and where it is durable.

    `durable_in` is "store"; or "spool", the local overflow, if the store could not be reached;
    or "transaction", if it commits with the caller's; or "lost", only under `on_error="log"`.
    `already` says that the same event had been stored before; this is then that one's receipt.
    """

    tenant_id: str
    event_id: str
    leaf_hash: bytes
    durable_in: Place
    already: bool = False


def receipt_for(event: Sealed, placed: Placement) -> Receipt:
    """The receipt of an event. Raises what went wrong, or `Conflict`."""
    if placed.error is not None:
        raise placed.error
    there = placed.already
    if there is None:
        return _receipt(event, cast("Place", placed.place))
    differing = differing_fields(event, there)
    if differing:
        raise Conflict(there.event_id, differing)
    return _receipt(there, cast("Place", placed.place), already=True)


def settled(event: Sealed, placed: Placement) -> Placement:
    """Where an event ended, knowing that it may be in `Conflict` with what is stored."""
    try:
        receipt_for(event, placed)
    except MunimentError as error:
        return Placement("lost", error=error)
    return placed


def receipts_for(
    events: Sequence[Sealed | None], placements: Iterable[Placement]
) -> tuple[list[Receipt], list[MunimentError]]:
    """The receipts of events, in their order, and what went wrong with those that are lost.

    None stands for an event that could not be sealed; it has no placement.
    """
    placed = iter(placements)
    receipts, failures = [], []
    for event in events:
        try:
            receipts.append(
                lost_receipt(None) if event is None else receipt_for(event, next(placed))
            )
        except MunimentError as error:
            failures.append(error)
            receipts.append(lost_receipt(event))
    return receipts, failures


def lost_receipt(event: Sealed | None) -> Receipt:
    """The receipt of an event that is lost; None if it could not even be sealed."""
    if event is None:
        return Receipt(tenant_id="", event_id="", leaf_hash=b"", durable_in="lost")
    return _receipt(event, "lost")


def _receipt(event: Sealed | StoredEvent, place: Place, *, already: bool = False) -> Receipt:
    return Receipt(
        tenant_id=event.tenant_id,
        event_id=event.event_id,
        leaf_hash=event.leaf_hash,
        durable_in=place,
        already=already,
    )


def differing_fields(ours: Sealed, theirs: StoredEvent) -> tuple[str, ...]:
    """The fields that the source gave differently in two events of one id.

    An erased event is taken at its word.
    """
    if theirs.body is None or theirs.leaf_hash == ours.leaf_hash:
        return ()
    one, other = decode(ours.body), decode(theirs.body)
    skipped = set(one.stamped) | set(other.stamped)
    if "occurred_at" in skipped:
        skipped.add("event_id")  # made from the time
    left, right = _source_fields(one, skipped), _source_fields(other, skipped)
    return tuple(
        name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)
    )


def _source_fields(event: Event, skipped: set[str]) -> dict[str, bytes]:
    """The JSON of each field: `==` would take true for 1, and null for what isn't there."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    flat = {k: v for k, v in fields.items() if k not in _LOGS_OWN and k not in skipped}
    for part in ("context", "details"):
        for key, value in flat.pop(part, {}).items():
            if f"{part}.{key}" not in skipped:
                flat[f"{part}.{key}"] = value
    return {name: _json(value) for name, value in flat.items()}
