"""Event <-> body: RFC 8785 (JCS) canonical JSON, one encoding for each event.

The body's bytes are what is stored, hashed as a leaf (`merkle.leaf_hash`) and exported as one
line of JSONL. msgspec's fast encoder serves events on which it agrees with JCS byte for byte; the
rest (integral or tiny floats, keys beyond ASCII) go through the encoder below.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec.structs import force_setattr

from muniment.errors import InvalidEvent
from muniment.event import Event

MAX_SAFE_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 64
MAX_DETAILS_BYTES: Final = 256 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
_MANY_VALUES: Final = 100_000
_TOO_DEEP: Final = f"is nested over {MAX_DEPTH} levels"

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Event).decode


def encode(
    event: Event, *, max_details_bytes: int = MAX_DETAILS_BYTES, is_decoded: bool = False
) -> bytes:
    """The event's body: canonical JSON, UTF-8, without a newline.

    `is_decoded` says that the event was just decoded from JSON, by other means than `decode`: then
    its keys are strings, and numbers are taken as `decode` takes them.
    Raises `InvalidEvent` for a value JSON can't carry unchanged (NaN, integers beyond ±(2^53-1),
    bytes, sets, lone surrogates, nesting over 64 levels) and for details or a body that is too big.
    """
    body = b""
    try:
        if is_decoded:
            if not event.changes and _values_agree(event.details):
                body = _encode(event)
                if not body.isascii():
                    body = b""  # perhaps on account of a key
            if not body:
                event = as_given(event)
        if not body and _agrees(event.details) and (not event.changes or _changes_agree(event)):
            body = _encode(event)
    except UnicodeEncodeError:
        body = b""
    if not body:
        body = _encode_slowly(event, max_details_bytes)
    if len(body) > max_details_bytes:
        _check_size(event, body, max_details_bytes)
    return body


def take_snapshot(event: Event, *, max_details_bytes: int = MAX_DETAILS_BYTES) -> int:
    """Put the canonical JSON of an event's details in their place; returns its size in bytes.

    What the caller changes afterwards changes nothing; `encode_snapshot` makes the body. Raises
    `InvalidEvent` as `encode` does, and then the event is as it was.
    """
    details = event.details
    if not details:
        force_setattr(event, "details", {})
        return 0
    raw = b""
    if _agrees(details):
        with contextlib.suppress(UnicodeEncodeError):
            raw = _encode(details)
    if not raw:
        raw = "".join(_jcs(plain(details, "details", _room(max_details_bytes)))).encode()
    if len(raw) > max_details_bytes:
        raise _too_big(len(raw), max_details_bytes)
    force_setattr(event, "details", msgspec.Raw(raw))
    return len(raw)


def encode_snapshot(event: Event) -> bytes:
    """The body of an event without changes whose details are a snapshot."""
    return _encode(event)


def decode(body: bytes | str) -> Event:
    """The event that a body is of. Raises `InvalidEvent` if it is not an event's JSON."""
    try:
        return as_given(_decode(body))
    except InvalidEvent:
        raise
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        field, problem = _locate(error)
        raise InvalidEvent(field, problem) from None


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of a plain JSON value. Raises `InvalidEvent` as `encode` does."""
    return "".join(_jcs(plain(value, "value", itertools.count()))).encode()


def plain(value: Any, path: str, room: Iterator[int], depth: int = 0) -> Any:
    """A copy of `value` made of JSON's own types only: what a body can hold.

    UUIDs, dates, times, decimals and enums become strings. Raises `InvalidEvent` with the path of
    the first value that can't be carried unchanged, or for which there is no more `room`: parts
    that are shared can make a small object's JSON endless.
    """
    if next(room, None) is None:
        raise InvalidEvent(path[:200], "goes beyond the bytes that fit; store the bulk elsewhere")
    kind = type(value)
    if kind is str:
        return _text(value, path)
    if value is None or kind is bool:
        return value
    if kind is int:
        if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            return value
        raise InvalidEvent(path, "is an integer beyond 2^53-1; give it as a string")
    if kind is float:
        if math.isfinite(value):
            return value
        raise InvalidEvent(path, f"is {value}, which JSON can't hold; give it as a string or null")
    if depth >= MAX_DEPTH:
        raise InvalidEvent(path[:200], f"{_TOO_DEEP} (or contains itself)")
    if isinstance(value, Mapping):
        return {
            _key(key, path): plain(item, f"{path}.{key}", room, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}[{n}]", room, depth + 1) for n, item in enumerate(value)]
    return _scalar(value, path, room, depth)


def _scalar(value: Any, path: str, room: Iterator[int], depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return plain(value.value, path, room, depth + 1)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    for base in (str, int, float):
        if isinstance(value, base):
            return plain(base(value), path, room, depth + 1)
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value), path, room, depth + 1)
    raise InvalidEvent(path, f"is {type(value).__name__}, which JSON can't hold; convert it first")


def _key(key: Any, path: str) -> str:
    if isinstance(key, enum.Enum) and isinstance(key, str):
        key = key.value
    if not isinstance(key, str):
        raise InvalidEvent(path, f"has the key {key!r:.100}, which is not a string")
    return str(_text(key, path))


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        bad = ord(value[error.start])
        raise InvalidEvent(path, f"has the lone surrogate U+{bad:04X}; it isn't text") from None
    return value


def _agrees(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether msgspec's encoding of a plain JSON value is RFC 8785's, byte for byte.

    False too for what is nested over `levels`, or is so large that it may contain itself: the slow
    path finds out.
    """
    level = [value]
    seen = 0
    while level and levels:
        levels -= 1
        inner: list[Any] = []
        for container in level:
            items: Iterable[Any] = container
            if type(container) is dict:
                for key in container:
                    if type(key) is not str or not key.isascii():
                        return False
                items = container.values()
            elif type(container) is not list and type(container) is not tuple:
                return False
            seen += len(container)
            if seen > _MANY_VALUES:
                return False
            for item in items:
                kind = type(item)
                if kind is str or kind is bool or item is None:
                    continue
                if kind is int:
                    if not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER:
                        return False
                elif kind is float:
                    if not (1e-5 < item < 1e16 or -1e16 < item < -1e-5) or item.is_integer():
                        return False
                else:
                    inner.append(item)
        level = inner
    return not level


def _values_agree(value: Any) -> bool:
    """Whether all values in what a JSON decoder made agree, as in `_agrees`; its keys may not.

    False too for so many containers that they might be nested too deep.
    """
    containers = [value]
    for container in containers:
        for item in container.values() if type(container) is dict else container:
            kind = type(item)
            if kind is str or kind is bool or item is None:
                continue
            if kind is int:
                if not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER:
                    return False
            elif kind is float:
                if not (1e-5 < item < 1e16 or -1e16 < item < -1e-5) or item.is_integer():
                    return False
            elif len(containers) == MAX_DEPTH:
                return False
            else:
                containers.append(item)
    return True


def _changes_agree(event: Event) -> bool:
    return _agrees(_change_values(event), MAX_DEPTH + 1)


def _change_values(event: Event) -> list[Any]:
    return [value for change in event.changes for value in (change.old, change.new)]


def as_given(event: Event) -> Event:
    """A decoded event with the floats that it was given with.

    Raises `InvalidEvent` for details or changes nested over 64 levels, as `encode` would.
    """
    if _agrees(event.details) and (not event.changes or _changes_agree(event)):
        return event
    return msgspec.structs.replace(
        event,
        details=_as_written(event.details, "details"),
        changes=tuple(
            msgspec.structs.replace(
                change,
                old=_as_written(change.old, f"changes[{n}].old"),
                new=_as_written(change.new, f"changes[{n}].new"),
            )
            for n, change in enumerate(event.changes)
        ),
    )


def _as_written(value: Any, field: str, depth: int = 0) -> Any:
    """A decoded value with its big floats: RFC 8785 prints 1e17 as an integer is printed.

    An integer that no float stands for stays one, to be refused as it would be from a caller.
    """
    kind = type(value)
    if kind is dict or kind is list:
        if depth == MAX_DEPTH:
            raise InvalidEvent(field, _TOO_DEEP)
        if kind is dict:
            return {key: _as_written(item, field, depth + 1) for key, item in value.items()}
        return [_as_written(item, field, depth + 1) for item in value]
    if kind is int and MAX_SAFE_INTEGER < abs(value) < 10**21:
        return float(value) if ecmascript_number(float(value)) == str(value) else value
    return value


def _encode_slowly(event: Event, max_details_bytes: int) -> bytes:
    details = plain(event.details, "details", _room(max_details_bytes))
    room = _room(MAX_BODY_BYTES + max_details_bytes)
    changes = [
        {
            "field": change.field,
            "old": plain(change.old, f"changes[{n}].old", room),
            "new": plain(change.new, f"changes[{n}].new", room),
        }
        for n, change in enumerate(event.changes)
    ]
    bare = msgspec.json.decode(_encode(msgspec.structs.replace(event, details={}, changes=())))
    if details:
        bare["details"] = details
    if changes:
        bare["changes"] = changes
    return "".join(_jcs(bare)).encode()


def _room(most_bytes: int) -> Iterator[int]:
    """Runs out after as many values as fit: each takes two bytes, with what separates it."""
    return iter(range(most_bytes // 2 + 1))


def _check_size(event: Event, body: bytes, max_details_bytes: int) -> None:
    size = len(canonical_json(event.details))
    if size > max_details_bytes:
        raise _too_big(size, max_details_bytes)
    most = MAX_BODY_BYTES + max_details_bytes
    if len(body) > most:
        raise InvalidEvent("event", f"takes {len(body)} bytes of JSON; at most {most} fit")


def _too_big(size: int, most: int) -> InvalidEvent:
    return InvalidEvent(
        "details",
        f"takes {size} bytes of JSON, over the limit of {most}; store the bulk elsewhere and "
        "record its SHA-256",
    )


def _jcs(value: Any) -> Iterator[str]:
    """RFC 8785, section 3.2: keys in order of UTF-16 units, ECMAScript numbers, few escapes."""
    if isinstance(value, str):
        yield json.dumps(value, ensure_ascii=False)
    elif value is None:
        yield "null"
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, int):
        yield str(value)
    elif isinstance(value, float):
        yield ecmascript_number(value)
    elif isinstance(value, dict):
        separator = "{"
        for key in sorted(value, key=_utf16_units):
            yield separator + json.dumps(key, ensure_ascii=False) + ":"
            yield from _jcs(value[key])
            separator = ","
        yield "}" if value else "{}"
    else:
        separator = "["
        for item in value:
            yield separator
            yield from _jcs(item)
            separator = ","
        yield "]" if value else "[]"


def _utf16_units(key: str) -> bytes:
    return key.encode("utf-16-be")


def ecmascript_number(value: float) -> str:
    """A finite float as ECMAScript's Number::toString prints it (RFC 8785, section 3.2.2.3)."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).rstrip("0") if fraction != "0" else whole
    point = len(whole) + int(exponent or 0)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        tail = f".{digits[1:]}" if count > 1 else ""
        text = f"{digits[0]}{tail}e{point - 1:+d}"
    return sign + text


def _locate(error: Exception) -> tuple[str, str]:
    """The field and the problem of a msgspec error, whose message ends in a JSON path."""
    if isinstance(error, RecursionError):
        return "event", _TOO_DEEP
    message, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".") or "event"
    if field == "event" and isinstance(error.__cause__, InvalidEvent):
        return error.__cause__.field, error.__cause__.problem
    return field, message or "is not an event's JSON"
