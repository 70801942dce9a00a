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
_MAPPINGS: Final = (dict, Mapping)  # the concrete one first: asking an abstract one takes long
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, Mapping)
_CIRCULAR: Final = "<circular>"
_TOO_DEEP: Final = "<nested too deep>"
_TOO_MANY: Final = "<too many values>"


def salvage_value(given: object) -> Any:
    """A value that JSON can hold, made from anything: a copy, of any size."""
    return _Salvage().value(given, 1)


def salvage_details(given: object, *, max_bytes: int | None = MAX_DETAILS_BYTES) -> dict[str, Any]:
    """Details that an event can hold, made from anything: a copy, at most `max_bytes` of JSON.

    NaN and infinities, integers beyond 2^53-1, dates, UUIDs and unknown objects become strings,
    bytes base64, sets sorted lists; lone surrogates are escaped, keys become strings. Details
    that are too big are replaced by a note of their size in bytes and their SHA-256. What is no
    mapping stands under `value`.
    """
    details = salvage_value(given)
    if details is None:
        return {}
    if not isinstance(details, dict):
        details = salvage_value({"value": given})  # again, for it is a level deeper now
    return details if max_bytes is None or fits(details, max_bytes) else too_big(details)


def fits(salvaged: dict[str, Any], max_bytes: int) -> bool:
    """Whether salvaged details take at most `max_bytes` as canonical JSON."""
    if len(msgspec.json.encode(salvaged)) * _CANONICAL_GROWTH <= max_bytes:
        return True
    return len(canonical_json(salvaged)) <= max_bytes


def too_big(salvaged: dict[str, Any]) -> dict[str, Any]:
    """What stands for salvaged details that don't fit: their size in bytes and their SHA-256."""
    body = canonical_json(salvaged)
    return {"too_big": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}}


def salvage_id(given: object) -> str | None:
    """An id that an event can hold, or None if there is nothing to hold.

    Control characters are escaped. What is over 512 bytes keeps its beginning and gets the start
    of its SHA-256, so that two long ids stay two.
    """
    if given is None or (type(given) is not str and _is_no_id(given)):
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
    if given is None:
        return None
    raw = as_text(given).encode()
    if len(raw) > MAX_TEXT_BYTES:
        raw = _cut(raw, MAX_TEXT_BYTES - len(_ELLIPSIS)) + _ELLIPSIS
    return raw.decode() or None


def as_text(given: object) -> str:
    """What `str` says, lone surrogates escaped; a note where `str` fails."""
    if type(given) is str and given.isascii():
        return given
    try:
        text = given.value if isinstance(given, Enum) else given
        text = str.__str__(text) if isinstance(text, str) else str(text)
        return text.encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - any object may do anything in its __str__
        return f"<unprintable {_kind(given)}>"


class _Salvage:
    """Copies one value; knows the containers it is inside of, and how much it has copied."""

    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._seen = 0

    def value(self, given: object, depth: int) -> Any:
        """The value as JSON can hold it."""
        self._seen += 1
        if self._is_full:
            return _TOO_MANY
        if type(given) is str:
            return as_text(given)
        try:
            return self._converted(given, depth)
        except Exception:  # noqa: BLE001 - a caller's mapping or iterator may raise anything
            return f"<unreadable {_kind(given)}>"

    @property
    def _is_full(self) -> bool:
        return self._seen > _MOST_VALUES

    def _converted(self, given: Any, depth: int) -> Any:
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, Enum):
            return self.value(given.value, depth)
        if isinstance(given, str):
            return as_text(given)
        if isinstance(given, _CONTAINERS):
            return self._container(given, depth)
        if isinstance(given, int | float):
            return _number(given)
        return _scalar(given)

    def _container(self, given: Any, depth: int) -> Any:
        if id(given) in self._inside:
            return _CIRCULAR
        if depth > MAX_DEPTH:
            return _TOO_DEEP
        self._inside.add(id(given))
        try:
            if isinstance(given, _MAPPINGS):
                return self._mapping(given, depth)
            items = self._items(given, depth)
        finally:
            self._inside.discard(id(given))
        if isinstance(given, set | frozenset):
            items.sort(key=canonical_json)  # a set's own order differs from process to process
        return items

    def _items(self, given: Iterable[Any], depth: int) -> list[Any]:
        copy: list[Any] = []
        for item in given:  # a caller's own iterator may never end
            copy.append(self.value(item, depth + 1))
            if self._is_full:
                break
        return copy

    def _mapping(self, given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        repeated: dict[str, int] = {}
        for key, item in given.items():
            if self._is_full:
                copy[_TOO_MANY] = True
                break
            name = text = _key(key)
            while name in copy:  # 1 and "1" are two keys, and both are kept
                repeated[text] = repeated.get(text, 1) + 1
                name = f"{text} ({repeated[text]})"
            copy[name] = self.value(item, depth + 1)
        return copy


def _is_no_id(given: object) -> bool:
    """Whether it is of a kind that never is an id; what can't even be asked for its kind is."""
    try:
        return isinstance(given, (bool, *_CONTAINERS))
    except Exception:  # noqa: BLE001 - any object may do anything in its __class__
        return False


def _key(key: object) -> str:
    """A key as JSON spells it."""
    if key is None or key is True or key is False:
        return {None: "null", True: "true", False: "false"}[key]
    return as_text(key)


def _number(given: float) -> int | float | str:
    if isinstance(given, int):
        whole = int(given)
        return whole if -MAX_SAFE_INTEGER <= whole <= MAX_SAFE_INTEGER else _digits(whole)
    real = float(given)
    return real if math.isfinite(real) else str(real)


def _scalar(given: Any) -> float | str:
    if isinstance(given, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(given)).decode()
    if isinstance(given, datetime | date | time):
        return as_text(given.isoformat())
    if isinstance(given, timedelta):
        return timedelta.total_seconds(given)
    return as_text(given)


def _kind(given: object) -> str:
    """The name of its type, whatever a metaclass makes of `__name__`."""
    return str(type.__dict__["__name__"].__get__(type(given)))


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
