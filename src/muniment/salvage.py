"""Whatever a caller gives, made recordable: for callers who must never be broken.

Nothing here raises, and nothing that was given is changed. What JSON can hold stays as it is; the
rest becomes text that says what it was. The same value gives the same result each time.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any, Final

import msgspec

from muniment.canonical import MAX_DEPTH, MAX_DETAILS_BYTES, MAX_SAFE_INTEGER, canonical_json
from muniment.checks import MAX_ID_BYTES, MAX_TEXT_BYTES

_HASH_DIGITS: Final = 16
_ELLIPSIS: Final = "…".encode()
_MOST_VALUES: Final = 100_000
_CANONICAL_GROWTH: Final = 5
"""Canonical JSON writes 1e+20 in full: no value grows more than that."""
_CIRCULAR: Final = "<circular>"
_TOO_DEEP: Final = "<nested too deep>"
_TOO_MANY: Final = "<too many values>"


def salvage_details(given: object, *, max_bytes: int = MAX_DETAILS_BYTES) -> dict[str, Any]:
    """Details that an event can hold, made from anything: a fresh copy, at most `max_bytes` of JSON.

    NaN and infinities, integers beyond 2^53-1, dates, UUIDs and unknown objects become strings,
    bytes base64, sets sorted lists; lone surrogates are escaped, keys become strings. Details
    that are too big are replaced by a note of their size in bytes and their SHA-256. What is no
    mapping stands under `value`.
    """
    details = _Salvage().value(given, 1)
    if details is None:
        return {}
    if not isinstance(details, dict):
        details = {"value": details}
    if len(msgspec.json.encode(details)) * _CANONICAL_GROWTH <= max_bytes:
        return details
    body = canonical_json(details)
    if len(body) <= max_bytes:
        return details
    return {"too_big": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}}


def salvage_id(given: object) -> str | None:
    """An id that an event can hold, or None if there is nothing to hold.

    Control characters are escaped. What is over 512 bytes keeps its beginning and gets the start
    of its SHA-256, so that two long ids stay two.
    """
    if given is None or isinstance(given, bool | Mapping | list | tuple | set | frozenset):
        return None
    text = as_text(given)
    if text.isprintable() and len(text) <= MAX_ID_BYTES // 4:
        return text or None
    raw = "".join(_escaped(c) if _is_control(c) else c for c in text).encode()
    if len(raw) <= MAX_ID_BYTES:
        return raw.decode()
    digest = hashlib.sha256(raw).hexdigest()[:_HASH_DIGITS].encode()
    return (_cut(raw, MAX_ID_BYTES - len(_ELLIPSIS) - _HASH_DIGITS) + _ELLIPSIS + digest).decode()


def salvage_text(given: object) -> str | None:
    """Text that an event can hold, cut with an ellipsis at 4,096 bytes; None if there is none."""
    if given is None or given == "":
        return None
    raw = as_text(given).encode()
    if len(raw) > MAX_TEXT_BYTES:
        raw = _cut(raw, MAX_TEXT_BYTES - len(_ELLIPSIS)) + _ELLIPSIS
    return raw.decode() or None


def as_text(given: object) -> str:
    """What `str` says, lone surrogates escaped; a note where `str` fails."""
    try:
        text = given.value if isinstance(given, Enum) else given
        text = str.__str__(text) if isinstance(text, str) else str(text)
        return text.encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - any object may do anything in its __str__
        return f"<unprintable {type(given).__name__}>"


class _Salvage:
    """Copies one value; knows the containers it is inside of, and how much it has copied."""

    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._seen = 0

    def value(self, given: object, depth: int) -> Any:
        """The value as JSON can hold it."""
        self._seen += 1
        if self._seen > _MOST_VALUES:
            return _TOO_MANY
        try:
            return self._converted(given, depth)
        except Exception:  # noqa: BLE001 - a caller's mapping or iterator may raise anything
            return f"<unreadable {type(given).__name__}>"

    def _converted(self, given: Any, depth: int) -> Any:
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, Enum):
            return self.value(given.value, depth)
        if isinstance(given, int):
            number = int(given)
            return number if -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER else _digits(number)
        if isinstance(given, float):
            number = float(given)
            return number if math.isfinite(number) else str(number)
        if isinstance(given, bytes | bytearray | memoryview):
            return base64.b64encode(bytes(given)).decode()
        if isinstance(given, datetime | date | time):
            return given.isoformat()
        if isinstance(given, timedelta):
            return given.total_seconds()
        if isinstance(given, Mapping | list | tuple | set | frozenset):
            return self._container(given, depth)
        return as_text(given)

    def _container(self, given: Any, depth: int) -> Any:
        if id(given) in self._inside:
            return _CIRCULAR
        if depth > MAX_DEPTH:
            return _TOO_DEEP
        self._inside.add(id(given))
        try:
            if isinstance(given, Mapping):
                return self._mapping(given, depth)
            items: Iterable[Any] = given
            if isinstance(given, set | frozenset):
                items = sorted(given, key=as_text)
            return [self.value(item, depth + 1) for item in items]
        finally:
            self._inside.discard(id(given))

    def _mapping(self, given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, item in given.items():
            if self._seen > _MOST_VALUES:
                copy[_TOO_MANY] = True
                break
            name = text = as_text(key)
            number = 2
            while name in copy:  # 1 and "1" are two keys, and both are kept
                name = f"{text} ({number})"
                number += 1
            copy[name] = self.value(item, depth + 1)
        return copy


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python refuses to print thousands of digits
        return hex(number)


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}"


def _cut(raw: bytes, size: int) -> bytes:
    """At most `size` bytes of UTF-8, no character halved."""
    return raw[:size].decode(errors="ignore").encode()
