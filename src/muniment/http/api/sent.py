"""What an event looks like that a client sends: for the API's description alone.

The event itself is the judge of what it may hold (`muniment.event`), and says what is wrong by
name; what a schema can say of that is said here, and a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from muniment.checks import MAX_ID_BYTES, MAX_TEXT_BYTES
from muniment.event import MAX_CHANGES, MAX_TARGETS, ActorType, Outcome

# Said in the description only: the event's own check says it better.
IdSent = Annotated[
    str,
    Meta(
        description="At most 512 bytes of UTF-8.",
        extra_json_schema={
            "minLength": 1,
            "maxLength": MAX_ID_BYTES,
            "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
        },
    ),
]
TextSent = Annotated[
    str,
    Meta(
        description="At most 4,096 bytes of UTF-8.",
        extra_json_schema={"maxLength": MAX_TEXT_BYTES},
    ),
]
_EventId = Annotated[
    str,
    Meta(
        pattern="^([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})?$",
        description="A UUIDv7 in lower case, of the event's own time; made unless given.",
    ),
]
_Time = Annotated[
    str,
    Meta(
        extra_json_schema={"format": "date-time"},
        description="When it happened, from 1970 on; now, unless given.",
    ),
]


class _Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ActorSent(_Given, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who acts, and on whose behalf: at most 16 of them."""

    type: ActorType
    id: IdSent
    name: TextSent | UnsetType | None = UNSET
    on_behalf_of: ActorSent | UnsetType | None = UNSET


class TargetSent(_Given, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is acted upon."""

    type: IdSent
    id: IdSent
    name: TextSent | UnsetType | None = UNSET


class ChangeSent(_Given, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a target, before and after: any JSON."""

    field: TextSent
    old: Any = None
    new: Any = None


class ContextSent(_Given, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the action came from."""

    ip: IdSent | UnsetType | None = UNSET
    user_agent: TextSent | UnsetType | None = UNSET
    request_id: IdSent | UnsetType | None = UNSET
    session_id: IdSent | UnsetType | None = UNSET
    trace_id: IdSent | UnsetType | None = UNSET
    span_id: IdSent | UnsetType | None = UNSET
    run_id: IdSent | UnsetType | None = UNSET
    parent_run_id: IdSent | UnsetType | None = UNSET
    approval_id: IdSent | UnsetType | None = UNSET
    service: IdSent | UnsetType | None = UNSET


class EventSent(_Given, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened. Integers are up to 2^53-1; `details` take 256 KiB at most."""

    action: IdSent
    tenant_id: IdSent | UnsetType = UNSET
    event_id: _EventId | UnsetType = UNSET
    idempotency_key: IdSent | UnsetType | None = UNSET
    occurred_at: _Time | UnsetType = UNSET
    actor: ActorSent | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    reason: TextSent | UnsetType | None = UNSET
    targets: Annotated[tuple[TargetSent, ...], Meta(max_length=MAX_TARGETS)] | UnsetType = UNSET
    changes: Annotated[tuple[ChangeSent, ...], Meta(max_length=MAX_CHANGES)] | UnsetType = UNSET
    context: ContextSent | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    organization_id: IdSent | UnsetType | None = UNSET
    schema_version: Literal[1] | UnsetType = UNSET
    recorded_at: Annotated[None, Meta(description="The log's to give.")] | UnsetType = UNSET
    salt: Annotated[None, Meta(description="The log's to give.")] | UnsetType = UNSET
