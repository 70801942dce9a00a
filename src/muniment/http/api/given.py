"""From the bytes that a client sends to an event, with nothing dropped on the way."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

import msgspec
from msgspec.structs import force_setattr

from muniment.canonical import MAX_DEPTH, plain
from muniment.checks import check_id
from muniment.errors import InvalidEvent
from muniment.event import SCHEMA_VERSION, Event
from muniment.event_id import EPOCH
from muniment.http.api.plain import has_tenant, plain_event
from muniment.http.problems import Refusal

_decode = msgspec.json.Decoder(Event).decode
_NOTHING: Final = msgspec.Raw(b"")
# How msgspec says that something is not JSON.
_CUT_OFF: Final = "Input data was truncated"
_MALFORMED: Final = "JSON is malformed: "


class _Actor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: msgspec.Raw = _NOTHING
    id: msgspec.Raw = _NOTHING
    name: msgspec.Raw = _NOTHING
    on_behalf_of: _Actor | None = None


class _Target(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: msgspec.Raw = _NOTHING
    id: msgspec.Raw = _NOTHING
    name: msgspec.Raw = _NOTHING


class _Change(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    field: msgspec.Raw = _NOTHING
    old: msgspec.Raw = _NOTHING
    new: msgspec.Raw = _NOTHING


class _Context(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ip: msgspec.Raw = _NOTHING
    user_agent: msgspec.Raw = _NOTHING
    request_id: msgspec.Raw = _NOTHING
    session_id: msgspec.Raw = _NOTHING
    trace_id: msgspec.Raw = _NOTHING
    span_id: msgspec.Raw = _NOTHING
    run_id: msgspec.Raw = _NOTHING
    parent_run_id: msgspec.Raw = _NOTHING
    approval_id: msgspec.Raw = _NOTHING
    service: msgspec.Raw = _NOTHING


class _Shape(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Which fields are there. Decoding into it is quick, and refuses those that no event has."""

    action: msgspec.Raw = _NOTHING
    tenant_id: msgspec.Raw = _NOTHING
    event_id: msgspec.Raw = _NOTHING
    idempotency_key: msgspec.Raw = _NOTHING
    occurred_at: msgspec.Raw = _NOTHING
    recorded_at: msgspec.Raw = _NOTHING
    actor: _Actor | None = None
    outcome: msgspec.Raw = _NOTHING
    reason: msgspec.Raw = _NOTHING
    targets: tuple[_Target, ...] = ()
    changes: tuple[_Change, ...] = ()
    context: _Context | None = None
    details: msgspec.Raw = _NOTHING
    organization_id: msgspec.Raw = _NOTHING
    stamped: msgspec.Raw = _NOTHING
    schema_version: msgspec.Raw = _NOTHING
    salt: msgspec.Raw = _NOTHING


_shape = msgspec.json.Decoder(_Shape).decode


def event_of(raw: bytes, tenant_id: str | None = None, key: str | None = None) -> Event:
    """The event of a client that is bound to `tenant_id`, None if it may write for all.

    `key` is the idempotency key if that came beside the event. Raises `InvalidEvent`, and a
    `Refusal` for another tenant's event and for two keys.
    """
    quick = plain_event(raw) if key is None else None
    if quick is not None:
        if tenant_id is None or quick.tenant_id == tenant_id:
            return quick
        if not has_tenant(quick) and quick.idempotency_key is None:
            force_setattr(quick, "tenant_id", tenant_id)  # nobody else has it yet
            return quick
    return _looked_at(raw, tenant_id, key)


def _looked_at(raw: bytes, tenant_id: str | None, key: str | None) -> Event:
    """The event, with all that can be wrong said of it by name."""
    try:
        event = _decode(raw)
        shape = _shape(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _invalid(error, raw) from None
    if event.recorded_at is not None or event.salt is not None or shape.stamped is not _NOTHING:
        _refuse_what_is_ours(event)
    if event.schema_version != SCHEMA_VERSION:
        raise InvalidEvent("schema_version", f"is {event.schema_version}; give {SCHEMA_VERSION}")
    changes: dict[str, Any] = {}
    if tenant_id is not None and event.tenant_id != tenant_id:
        if shape.tenant_id is not _NOTHING:
            raise Refusal(
                403,
                "forbidden",
                "tenant_id: your credential is for another tenant.",
                field="tenant_id",
            )
        changes["tenant_id"] = tenant_id
    if key is not None:
        check_id("Idempotency-Key", key)
        if event.idempotency_key not in {None, key}:
            raise Refusal(
                400,
                "two-keys",
                "Idempotency-Key: differs from the event's idempotency_key; give one of them.",
                field="idempotency_key",
            )
        changes["idempotency_key"] = key
    return _made_anew(event, shape, changes) if changes else event


def _made_anew(event: Event, shape: _Shape, changes: dict[str, Any]) -> Event:
    """The event with other fields, from which its id and time may follow."""
    if bytes(shape.event_id) in {b"", b'""'}:
        changes["event_id"] = ""
    if shape.occurred_at is _NOTHING:
        changes["occurred_at"] = EPOCH
        changes["stamped"] = ()
    return msgspec.structs.replace(event, **changes)


def _refuse_what_is_ours(event: Event) -> None:
    for name in ("recorded_at", "salt", "stamped"):
        if name == "stamped" or getattr(event, name) is not None:
            raise InvalidEvent(name, "is the log's to give; leave it out")


def _invalid(error: Exception, raw: bytes) -> InvalidEvent:
    """What msgspec says, whose messages end in a JSON path, with the name of the field."""
    if isinstance(error, RecursionError):
        return InvalidEvent("event", f"is nested over {MAX_DEPTH} levels")
    if isinstance(error, UnicodeError):
        return InvalidEvent("event", "is not UTF-8, or not text")
    message, _, path = str(error).partition(" - at `$")
    if message == _CUT_OFF or message.startswith(_MALFORMED):
        return _no_json(message, raw)
    field = path.rstrip("`").lstrip(".")
    cause = error.__cause__
    if isinstance(cause, InvalidEvent):
        # An actor, say, knows itself as `actor` wherever in the event it stands.
        part = cause.field.partition(".")[2] if field else cause.field
        return InvalidEvent(".".join(filter(None, (field, part))), cause.problem)
    unknown = message.removeprefix("Object contains unknown field `")
    if unknown != message:
        name = ".".join(filter(None, (field, unknown.rstrip("`"))))
        return InvalidEvent(name, "is no field of an event, and nothing is dropped: use details")
    return InvalidEvent(field or "event", message[:1].lower() + message[1:])


def _no_json(message: str, raw: bytes) -> InvalidEvent:
    """What is wrong with bytes that msgspec can't parse."""
    if message == _CUT_OFF or "surrogate" in message:
        # To msgspec a lone surrogate at a text's end is a message that breaks off.
        try:
            plain(json.loads(raw.decode()), "", itertools.count())
        except InvalidEvent as found:
            return InvalidEvent(found.field.lstrip(".") or "event", found.problem)
        except (ValueError, RecursionError):
            pass  # it is not whole, or not JSON on other accounts too
    if not raw.strip():
        return InvalidEvent("event", "is empty; give a JSON object")
    if message == _CUT_OFF:
        return InvalidEvent("event", "is cut off: its JSON does not end")
    return InvalidEvent("event", f"is not JSON: {message.removeprefix(_MALFORMED)}")
