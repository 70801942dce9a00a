"""Events that need no second look: all that is to be checked of them is checked while decoding.

Most events are like that. For any other one the decoder here just says no: that it is not plain
does not mean that something is wrong with it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, UnsetType

from muniment.checks import MAX_ID_BYTES, MAX_TEXT_BYTES
from muniment.event import (
    MAX_TARGETS,
    SCHEMA_VERSION,
    SYSTEM_TENANT,
    Actor,
    ActorType,
    Change,
    Context,
    Event,
    Target,
)

# In ASCII a character is a byte, and `plain_event` looks for those that may not stand there.
_Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)]
_Text = Annotated[str, Meta(max_length=MAX_TEXT_BYTES)]


class _Person(Actor, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom an actor acts for, and who acts for nobody."""

    type: ActorType
    id: _Id
    name: _Text | None = None
    on_behalf_of: None = None

    def __post_init__(self) -> None:
        """Nothing is left to be checked."""


class _Actor(Actor, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: ActorType
    id: _Id
    name: _Text | None = None
    on_behalf_of: _Person | None = None

    def __post_init__(self) -> None:
        """Nothing is left to be checked."""


class _Target(Target, frozen=True, forbid_unknown_fields=True):
    type: _Id
    id: _Id
    name: _Text | None = None

    def __post_init__(self) -> None:
        """Nothing is left to be checked."""


class _Context(Context, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ip: _Id | None = None
    user_agent: _Text | None = None
    request_id: _Id | None = None
    session_id: _Id | None = None
    trace_id: _Id | None = None
    span_id: _Id | None = None
    run_id: _Id | None = None
    parent_run_id: _Id | None = None
    approval_id: _Id | None = None
    service: _Id | None = None

    def __post_init__(self) -> None:
        """Nothing is left to be checked."""


_NO_CONTEXT: Final = _Context()


class _Plain(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    action: _Id
    tenant_id: _Id = msgspec.field(default_factory=lambda: SYSTEM_TENANT)
    idempotency_key: _Id | None = None
    recorded_at: None = None
    actor: _Actor = msgspec.field(default_factory=lambda: _Actor(type="system", id="system"))
    reason: _Text | None = None
    targets: Annotated[tuple[_Target, ...], Meta(max_length=MAX_TARGETS)] = ()
    changes: Annotated[tuple[Change, ...], Meta(max_length=0)] = ()
    context: _Context = _NO_CONTEXT
    organization_id: _Id | None = None
    stamped: UnsetType = ()  # type: ignore[assignment]  # which JSON can't give
    schema_version: Literal[1] = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    salt: None = None

    def __post_init__(self) -> None:
        self._identify()


_decode: Final = msgspec.json.Decoder(_Plain).decode


def plain_event(raw: bytes) -> Event | None:
    """The event in these bytes if it is plain; else None."""
    # No escapes and no DEL: so there are no control characters, for JSON has none without escape.
    if not raw.isascii() or b"\\" in raw or b"\x7f" in raw:
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def has_tenant(event: Event) -> bool:
    """Whether a plain event came with a tenant."""
    return event.tenant_id is not SYSTEM_TENANT
