"""Sealing: from what a caller gives to an event's final body."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypedDict

import msgspec
from msgspec.structs import force_setattr

from muniment.canonical import (
    MAX_DETAILS_BYTES,
    as_given,
    encode,
    encode_snapshot,
    take_snapshot,
)
from muniment.checks import wrong_type
from muniment.errors import InvalidEvent, MunimentError
from muniment.event import TO_BE_MADE, Actor, Change, Context, Event, Outcome, Target
from muniment.event_id import EPOCH, make_event_id
from muniment.merkle import leaf_hash
from muniment.processors import Processor, stamped_fields
from muniment.query import index_terms
from muniment.stores.base import Sealed

MAX_AHEAD: Final = timedelta(hours=24)


class EventFields(TypedDict, total=False):
    """The fields of an event that a caller may give; None is the same as not given."""

    tenant_id: str | None
    actor: Actor | None
    targets: Sequence[Target] | None
    outcome: Outcome | str | None
    reason: str | None
    changes: Sequence[Change] | None
    context: Context | None
    details: dict[str, Any] | None
    organization_id: str | None
    occurred_at: datetime | None
    event_id: str | None
    idempotency_key: str | None


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not None. Raises `InvalidEvent` if an event has no such field."""
    found = {name: value for name, value in fields.items() if value is not None}
    if not found.keys() <= _NAMES:
        name = min(found.keys() - _NAMES)
        raise InvalidEvent(name, f"an event has no such field; it has {', '.join(sorted(_NAMES))}")
    return found


_NAMES: Final = frozenset(EventFields.__annotations__)
_SALTS: Final = 256
_FEW_TARGETS: Final = 16
"""So few that a body can't be too big on their account."""
_USUAL: Final = _NAMES - {"changes", "occurred_at", "event_id", "idempotency_key"}


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class Draft(msgspec.Struct, gc=False):
    """A checked event with a snapshot of its details: all that is left is to seal it.

    `details_size` is the snapshot's size in bytes.
    """

    event: Event
    details_size: int
    sealer: Sealer
    sealed: Sealed | None = None

    def seal(self) -> Sealed:
        """The sealed event: the same one each time, whichever thread asks."""
        return self.sealer.finish(self)


class Sealer:
    """Makes events whole and seals them; time and chance come from `clock` and `entropy`."""

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
        # A signal handler may emit, and lose, while we hold it.
        self._finishing = threading.RLock()

    def seal_call(self, action: str, given: dict[str, Any]) -> Sealed:
        """Make and seal the event of one call's arguments. Raises `InvalidEvent`."""
        if self._processors or not _USUAL.issuperset(given):
            return self._seal_unusual(action, given)
        event = self._make(action, given)
        self._identify(event)
        body = encode(event, max_details_bytes=self._max_details_bytes)
        return self._sealed(event, body, may_repeat=False, key=None)

    def draft_call(self, action: str, given: dict[str, Any]) -> Draft | Sealed:
        """Check the arguments of one call, and take a snapshot of them. Raises `InvalidEvent`.

        What takes long and can't fail any more is left to do, unless the event is an unusual one:
        then it is sealed.
        """
        if self._processors or not _USUAL.issuperset(given):
            return self._seal_unusual(action, given)
        event = self._make(action, given)
        if len(event.targets) > _FEW_TARGETS:
            return self._seal_unusual(action, given)
        return Draft(event, take_snapshot(event, max_details_bytes=self._max_details_bytes), self)

    def finish(self, draft: Draft) -> Sealed:
        """Give a drafted event its id and salt, encode and hash it; once."""
        # The recorder and the spool's thread may both come for an event: it must not get two ids.
        with self._finishing:
            if draft.sealed is None:
                self._identify(draft.event)
                body = encode_snapshot(draft.event)
                draft.sealed = self._sealed(draft.event, body, may_repeat=False, key=None)
            return draft.sealed

    def seal(self, event: Event) -> Sealed:
        """Process, stamp, encode and hash an event, which stays as it is. Raises `InvalidEvent`."""
        if type(event) is not Event:
            raise InvalidEvent("event", wrong_type("an Event", event))
        return self._seal(event, self._process(event), may_repeat=True)

    def seal_decoded(self, event: Event, salts: Iterator[str] | None = None) -> Sealed:
        """Seal an event that was just decoded from JSON and that nobody else has, in place.

        Quicker than `seal`, and otherwise the same; `salts` are for many events.
        """
        if self._processors:
            return self.seal(as_given(event))
        salt = next(salts) if salts is not None else None
        return self._seal(event, event, may_repeat=True, is_decoded=True, salt=salt)

    def salts(self) -> Iterator[str]:
        """Salts without end, for one thread to give to many events in a row.

        Drawing them one by one, it would let the interpreter's lock go for each event, and wait for
        another thread that computes to give it back.
        """
        while True:
            drawn = self._entropy(_SALTS * 16).hex()
            yield from (drawn[n : n + 32] for n in range(0, len(drawn), 32))

    def _make(self, action: str, given: dict[str, Any]) -> Event:
        """The checked event of usual arguments, without an id."""
        if self._tenant_id is not None:
            given.setdefault("tenant_id", self._tenant_id)
        now = self._clock()
        if now < EPOCH:
            raise InvalidEvent("occurred_at", "is before 1970 by this machine's clock")
        event = Event(action=action, event_id=TO_BE_MADE, occurred_at=now, recorded_at=now, **given)
        self._check_tenant(event)
        return event

    def _identify(self, event: Event) -> None:
        entropy = self._entropy(24)
        force_setattr(event, "event_id", make_event_id(event.occurred_at, entropy))
        force_setattr(event, "salt", entropy[8:].hex())

    def _seal_unusual(self, action: str, given: dict[str, Any]) -> Sealed:
        fields = dict(given)
        if self._tenant_id is not None:
            fields.setdefault("tenant_id", self._tenant_id)
        if "event_id" not in fields and "occurred_at" not in fields:
            fields["occurred_at"] = self._clock()
            if "idempotency_key" in fields:
                # Another try comes at another time: the key alone must lead to the first one.
                fields["stamped"] = ("occurred_at",)
            else:
                fields["event_id"] = make_event_id(fields["occurred_at"], self._entropy(8))
        event = Event(action=action, **fields)
        whole = self._process(event) if self._processors else event
        return self._seal(event, whole, may_repeat="event_id" in given)

    def _seal(
        self,
        event: Event,
        whole: Event,
        *,
        may_repeat: bool,
        is_decoded: bool = False,
        salt: str | None = None,
    ) -> Sealed:
        self._check_tenant(event)
        now = self._clock()
        if event.occurred_at > now and event.occurred_at - now > MAX_AHEAD:
            raise InvalidEvent(
                "occurred_at",
                f"{event.occurred_at.isoformat()} is over {MAX_AHEAD // timedelta(hours=1)} hours "
                "ahead of this machine's clock",
            )
        force_setattr(whole, "recorded_at", now)
        force_setattr(whole, "salt", salt or self._entropy(16).hex())
        body = encode(whole, max_details_bytes=self._max_details_bytes, is_decoded=is_decoded)
        key = event.idempotency_key
        return self._sealed(
            whole,
            body,
            may_repeat=may_repeat or key is not None,
            key=key if key is not None and "occurred_at" in event.stamped else None,
        )

    def _sealed(self, event: Event, body: bytes, *, may_repeat: bool, key: str | None) -> Sealed:
        return Sealed(
            event.tenant_id,
            event.event_id,
            body,
            leaf_hash(body),
            index_terms(event),
            may_repeat,
            key,
        )

    def _check_tenant(self, event: Event) -> None:
        if self._tenant_id is not None and event.tenant_id != self._tenant_id:
            raise InvalidEvent(
                "tenant_id", f"is {event.tenant_id!r}, but this log is bound to {self._tenant_id!r}"
            )

    def _process(self, event: Event) -> Event:
        """A fresh copy of the event, after the processors."""
        if not self._processors:
            return copy.copy(event)
        processed = event
        for processor in self._processors:
            try:
                processed = processor(processed)
            except MunimentError:
                raise
            except Exception as error:
                # A MunimentError, so that `on_error` decides what becomes of it.
                raise InvalidEvent("processors", f"one raised {type(error).__name__}") from error
            if type(processed) is not Event:
                problem = wrong_type("an Event", processed).removeprefix("is ")
                raise InvalidEvent("processors", f"one returned {problem}")
        for name in ("tenant_id", "event_id", "occurred_at", "idempotency_key"):
            if getattr(processed, name) != getattr(event, name):
                raise InvalidEvent(name, "was changed by a processor, which may not")
        whole = copy.copy(processed)
        added = stamped_fields(event, processed)
        if added:
            force_setattr(whole, "stamped", (*event.stamped, *added))
        return whole
