"""The event: who did what to what, for which tenant, when, and how it ended.

All types are frozen structs, the same from wire to store. Each checks itself when it is made: a
value that can't be recorded raises `InvalidEvent`, which names the field.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import force_setattr

from muniment.checks import as_utc, as_utf8, check_id, check_text, wrong_type
from muniment.errors import InvalidEvent
from muniment.event_id import (
    EPOCH,
    event_id_of_key,
    is_event_id,
    make_event_id,
    milliseconds_of,
    time_of,
)

SCHEMA_VERSION: Final = 1
_MAX_VERSION: Final = 9999
_MILLISECOND: Final = timedelta(milliseconds=1)
SYSTEM_TENANT: Final = "system"
MAX_TARGETS: Final = 1000
MAX_CHANGES: Final = 1000
MAX_DELEGATION: Final = 16
TO_BE_MADE: Final = str(b"to be made", "ascii")
"""Stands for the event_id of an event whose maker gives it one at once; known by its identity."""

ActorType = Literal["user", "agent", "service", "system"]
_ACTOR_TYPES = ("user", "agent", "service", "system")


class Outcome(StrEnum):
    """How an action ended. `denied` is a refusal; `failure` is everything else that went wrong."""

    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"
    UNKNOWN = "unknown"


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who acts. `on_behalf_of` is whom an actor acts for: the next link of a delegation chain."""

    type: ActorType
    id: str
    name: str | None = None
    on_behalf_of: Actor | None = None

    def __post_init__(self) -> None:
        if type(self.type) is not str or self.type not in _ACTOR_TYPES:
            raise InvalidEvent(
                "actor.type", f"{self.type!r:.100} is none of {', '.join(_ACTOR_TYPES)}"
            )
        check_id("actor.id", self.id)
        if self.name is not None:
            check_text("actor.name", self.name)
        behalf = self.on_behalf_of
        if behalf is not None and (type(behalf) is not Actor or behalf.on_behalf_of is not None):
            _check_delegation(behalf)

    @classmethod
    def user(cls, id: str, *, name: str | None = None, on_behalf_of: Actor | None = None) -> Actor:
        """A person."""
        return cls(type="user", id=id, name=name, on_behalf_of=on_behalf_of)

    @classmethod
    def agent(cls, id: str, *, name: str | None = None, on_behalf_of: Actor | None = None) -> Actor:
        """An AI agent, usually on behalf of a person."""
        return cls(type="agent", id=id, name=name, on_behalf_of=on_behalf_of)

    @classmethod
    def service(
        cls, id: str, *, name: str | None = None, on_behalf_of: Actor | None = None
    ) -> Actor:
        """A program with an identity of its own."""
        return cls(type="service", id=id, name=name, on_behalf_of=on_behalf_of)

    @classmethod
    def system(cls, id: str = "system", *, name: str | None = None) -> Actor:
        """The platform itself: schedules, clean-ups, anything nobody in particular did."""
        return cls(type="system", id=id, name=name)

    def chain(self) -> Iterator[Actor]:
        """This actor, then whom it acts for, and so on."""
        link: Actor | None = self
        while link is not None:
            yield link
            link = link.on_behalf_of


class Target(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is acted upon, such as `Target("user", "u2")`."""

    type: str
    id: str
    name: str | None = None

    def __post_init__(self) -> None:
        check_id("target.type", self.type)
        check_id("target.id", self.id)
        if self.name is not None:
            check_text("target.name", self.name)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a target, before and after; `old` and `new` are any JSON values."""

    field: str
    old: Any = None
    new: Any = None

    def __post_init__(self) -> None:
        check_text("change.field", self.field)


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where the action came from: the request, session, trace and run it belongs to."""

    ip: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    run_id: str | None = None
    parent_run_id: str | None = None
    approval_id: str | None = None
    service: str | None = None

    def __post_init__(self) -> None:
        for name, value in zip(_CONTEXT_IDS, _context_ids(self), strict=True):
            if value is not None:
                check_id(f"context.{name}", value)
        if self.user_agent is not None:
            check_text("context.user_agent", self.user_agent)


_CONTEXT_IDS = tuple(f for f in Context.__struct_fields__ if f != "user_agent")
_context_ids = operator.attrgetter(*_CONTEXT_IDS)
_NO_CONTEXT = Context()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing that happened, complete and checked, with an identity from the moment it is made.

    What isn't given is filled in: `occurred_at` is now (or the time inside a given `event_id`),
    `event_id` is a UUIDv7 of that time, derived from `idempotency_key` if there is one. So the
    same `Event` recorded twice is stored once. `recorded_at` and `salt` are the log's to give, and
    `stamped` names the fields that the log's processors filled in where the source left them empty.

    Raises `InvalidEvent`, naming the field.
    """

    action: str
    tenant_id: str = msgspec.field(default_factory=lambda: SYSTEM_TENANT)
    event_id: str = ""
    idempotency_key: str | None = None
    occurred_at: datetime = EPOCH
    recorded_at: datetime | None = None
    actor: Actor = msgspec.field(default_factory=Actor.system)
    outcome: Outcome = msgspec.field(default_factory=lambda: Outcome.UNKNOWN)
    reason: str | None = None
    targets: tuple[Target, ...] = ()
    changes: tuple[Change, ...] = ()
    context: Context = _NO_CONTEXT
    details: dict[str, Any] = {}
    organization_id: str | None = None
    stamped: tuple[str, ...] = ()
    schema_version: int = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    salt: str | None = None

    def __post_init__(self) -> None:
        self._normalize()
        self._identify()
        _check(self)

    def _normalize(self) -> None:
        if type(self.action) is not str:
            if not isinstance(self.action, str):
                raise InvalidEvent("action", wrong_type("a string", self.action))
            force_setattr(self, "action", str.__str__(self.action))
        if type(self.outcome) is not Outcome:
            try:
                force_setattr(self, "outcome", Outcome(self.outcome))
            except ValueError:
                raise InvalidEvent(
                    "outcome", f"{self.outcome!r:.100} is none of {', '.join(Outcome)}"
                ) from None
        if type(self.targets) is not tuple:
            force_setattr(self, "targets", _tuple("targets", self.targets))
        if type(self.changes) is not tuple:
            force_setattr(self, "changes", _tuple("changes", self.changes))
        if type(self.stamped) is not tuple:
            force_setattr(self, "stamped", _tuple("stamped", self.stamped))

    def _identify(self) -> None:
        """Fill in the time and the id, each from the other where only one is given."""
        if self.occurred_at is not EPOCH:
            force_setattr(self, "occurred_at", as_utc("occurred_at", self.occurred_at))
        if self.event_id is TO_BE_MADE:
            return
        if self.event_id != "":
            _check_given_id(self)
            if self.occurred_at is EPOCH:
                force_setattr(self, "occurred_at", time_of(self.event_id))
            return
        if self.occurred_at is EPOCH:
            force_setattr(self, "occurred_at", datetime.now(UTC))
            if self.idempotency_key is not None:
                # Another try comes at another time: the key alone must lead to the first one.
                force_setattr(self, "stamped", (*self.stamped, "occurred_at"))
        elif self.occurred_at < EPOCH:
            raise InvalidEvent("occurred_at", "times before 1970 can't be recorded")
        if self.idempotency_key is None:
            event_id = make_event_id(self.occurred_at, os.urandom(8))
        else:
            check_id("tenant_id", self.tenant_id)
            check_id("idempotency_key", self.idempotency_key)
            event_id = event_id_of_key(self.occurred_at, self.tenant_id, self.idempotency_key)
        force_setattr(self, "event_id", event_id)

    @property
    def user_id(self) -> str | None:
        """The first person in the chain of actors: who acts, or who is acted for."""
        return next((a.id for a in self.actor.chain() if a.type == "user"), None)

    @property
    def agent_id(self) -> str | None:
        """The first agent in the chain of actors."""
        return next((a.id for a in self.actor.chain() if a.type == "agent"), None)


def _check(event: Event) -> None:
    """Check what the parts have not checked of themselves."""
    check_id("action", event.action)
    check_id("tenant_id", event.tenant_id)
    if event.idempotency_key is not None:
        check_id("idempotency_key", event.idempotency_key)
    if event.recorded_at is not None:
        force_setattr(event, "recorded_at", as_utc("recorded_at", event.recorded_at))
    if type(event.actor) is not Actor:
        raise InvalidEvent("actor", wrong_type("an Actor", event.actor))
    if event.reason is not None:
        check_text("reason", event.reason)
    if event.organization_id is not None:
        check_id("organization_id", event.organization_id)
    if event.targets:
        _check_all("targets", event.targets, Target, MAX_TARGETS)
    if event.changes:
        _check_all("changes", event.changes, Change, MAX_CHANGES)
    if type(event.context) is not Context:
        raise InvalidEvent("context", wrong_type("a Context", event.context))
    if type(event.details) is not dict:
        raise InvalidEvent("details", wrong_type("a dict", event.details))
    for n, name in enumerate(event.stamped):
        as_utf8(f"stamped[{n}]", name)
    if type(event.schema_version) is not int or not 1 <= event.schema_version <= _MAX_VERSION:
        raise InvalidEvent("schema_version", f"{event.schema_version!r:.100} is no version")
    if event.salt is not None:
        check_text("salt", event.salt)


def _check_all(path: str, values: tuple[Any, ...], kind: type, most: int) -> None:
    if len(values) > most:
        raise InvalidEvent(path, f"has {len(values)} of them; at most {most} fit")
    for n, value in enumerate(values):
        if type(value) is not kind:
            raise InvalidEvent(f"{path}[{n}]", wrong_type(f"a {kind.__name__}", value))


def _check_delegation(actor: Actor) -> None:
    if type(actor) is not Actor:
        raise InvalidEvent("actor.on_behalf_of", wrong_type("an Actor", actor))
    if sum(1 for _ in actor.chain()) >= MAX_DELEGATION:
        raise InvalidEvent("actor.on_behalf_of", f"a chain has at most {MAX_DELEGATION} actors")


def _check_given_id(event: Event) -> None:
    """A given id must be a UUIDv7 of the event's own time, or order of ids isn't order of time."""
    event_id = event.event_id
    if type(event_id) is not str or not is_event_id(event_id):
        raise InvalidEvent(
            "event_id",
            f"{event_id!r:.100} is not a lower-case UUIDv7; give it as idempotency_key instead",
        )
    if event.occurred_at is not EPOCH and (
        (event.occurred_at - EPOCH) // _MILLISECOND != milliseconds_of(event_id)
    ):
        raise InvalidEvent(
            "event_id",
            f"carries another time ({time_of(event_id).isoformat()}) than occurred_at "
            f"({event.occurred_at.isoformat()}); leave one of them out, or give an outside id as "
            "idempotency_key",
        )


def _tuple(path: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, list):
        return tuple(value)
    raise InvalidEvent(path, wrong_type("a list", value))
