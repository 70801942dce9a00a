"""Sealing: from what a caller gives to an event's final body, and back to compare two of them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import force_setattr

from muniment.canonical import MAX_DETAILS_BYTES, decode, encode, leaf_hash
from muniment.errors import InvalidEvent
from muniment.event import Event
from muniment.event_id import make_event_id
from muniment.processors import Processor, stamped_fields
from muniment.query import index_terms
from muniment.stores.base import Sealed, StoredEvent

MAX_AHEAD: Final = timedelta(hours=24)
_LOGS_OWN: Final = ("recorded_at", "salt", "stamped", "schema_version")


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What `record` returns: the event's id, its leaf hash, and where it is durable.

    `durable_in` is "store"; or "spool", the local overflow, if the store could not be reached;
    or "transaction", if it commits with the caller's; or "lost", only under `on_error="log"`.
    `already` says that the same event had been stored before; this is then that one's receipt.
    """

    tenant_id: str
    event_id: str
    leaf_hash: bytes
    durable_in: Literal["store", "spool", "transaction", "lost"]
    already: bool = False


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class Sealer:
    """Makes events whole and seals them. `clock` and `entropy` are where time and chance come from."""

    def __init__(
        self,
        *,
        tenant_id: str | None = None,
        processors: Sequence[Processor] = (),
        max_details_bytes: int = MAX_DETAILS_BYTES,
        clock: Callable[[], datetime] = utc_now,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._tenant_id = tenant_id
        self._processors = tuple(processors)
        self._max_details_bytes = max_details_bytes
        self._clock = clock
        self._entropy = entropy

    def make(self, action: str, given: dict[str, Any]) -> Event:
        """The event of one call's arguments; those that are None were not given."""
        fields = {name: value for name, value in given.items() if value is not None}
        if self._tenant_id is not None:
            fields.setdefault("tenant_id", self._tenant_id)
        if "event_id" not in fields and "occurred_at" not in fields:
            now = self._clock()
            fields["occurred_at"] = now
            if "idempotency_key" in fields:
                # Another try comes at another time: the key alone must lead to the first one.
                fields["stamped"] = ("occurred_at",)
            else:
                fields["event_id"] = make_event_id(now, self._entropy(8))
        return Event(action=action, **fields)

    def seal(self, event: Event, *, may_repeat: bool = True) -> Sealed:
        """Run the processors, stamp, encode and hash. Raises `InvalidEvent`."""
        if type(event) is not Event:
            raise InvalidEvent("event", f"is {type(event).__name__}, not an Event")
        if self._tenant_id is not None and event.tenant_id != self._tenant_id:
            raise InvalidEvent(
                "tenant_id", f"is {event.tenant_id!r}, but this log is bound to {self._tenant_id!r}"
            )
        now = self._clock()
        if event.occurred_at > now and event.occurred_at - now > MAX_AHEAD:
            raise InvalidEvent(
                "occurred_at",
                f"{event.occurred_at.isoformat()} is over {MAX_AHEAD // timedelta(hours=1)} hours "
                "ahead of this machine's clock",
            )
        whole = self._process(event)
        force_setattr(whole, "recorded_at", now)
        force_setattr(whole, "salt", self._entropy(16).hex())
        body = encode(whole, max_details_bytes=self._max_details_bytes)
        keyed = event.idempotency_key is not None
        return Sealed(
            whole.tenant_id,
            whole.event_id,
            body,
            leaf_hash(body),
            index_terms(whole),
            may_repeat or keyed,
            event.idempotency_key if keyed and "occurred_at" in event.stamped else None,
        )

    def _process(self, event: Event) -> Event:
        """A fresh copy of the event, after the processors."""
        processed = event
        for processor in self._processors:
            processed = processor(processed)
        if type(processed) is not Event:
            raise InvalidEvent("processors", f"returned {type(processed).__name__}, not an Event")
        for name in ("tenant_id", "event_id", "occurred_at", "idempotency_key"):
            if getattr(processed, name) != getattr(event, name):
                raise InvalidEvent(name, "was changed by a processor, which may not")
        whole = copy.copy(processed)
        added = stamped_fields(event, processed)
        if added:
            force_setattr(whole, "stamped", (*event.stamped, *added))
        return whole


def differing_fields(ours: Sealed, theirs: StoredEvent) -> tuple[str, ...]:
    """The fields that the source gave differently in two events of one id; erased ones differ not."""
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


def _source_fields(event: Event, skipped: set[str]) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(event)
    flat = {k: v for k, v in fields.items() if k not in _LOGS_OWN and k not in skipped}
    for part in ("context", "details"):
        for key, value in flat.pop(part, {}).items():
            if f"{part}.{key}" not in skipped:
                flat[f"{part}.{key}"] = value
    return flat
