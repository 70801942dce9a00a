"""Foreign ids and texts, made to fit an event: the same value gives the same result each time."""

from __future__ import annotations

import hashlib
from typing import Final

from muniment.checks import MAX_ID_BYTES, MAX_TEXT_BYTES

_SAFE_CHARACTERS: Final = MAX_ID_BYTES // 4
_HASH_DIGITS: Final = 16
_ELLIPSIS: Final = "…".encode()


def fit_id(value: object) -> str | None:
    """An id that an event can hold, made from a foreign one; None if there is nothing to hold.

    Control characters are escaped. What is over 512 bytes keeps its beginning and gets the start
    of its SHA-256, so that two long ids stay two.
    """
    if value is None or isinstance(value, dict | list | bool):
        return None
    text = str(value)
    if not text:
        return None
    if len(text) <= _SAFE_CHARACTERS and text.isprintable():
        return text
    plain = "".join(_escaped(c) if _is_control(c) else c for c in text)
    raw = plain.encode(errors="backslashreplace")
    if len(raw) <= MAX_ID_BYTES:
        return raw.decode()
    digest = hashlib.sha256(raw).hexdigest()[:_HASH_DIGITS].encode()
    return (_cut(raw, MAX_ID_BYTES - len(_ELLIPSIS) - _HASH_DIGITS) + _ELLIPSIS + digest).decode()


def fit_text(value: object) -> str | None:
    """Text that an event can hold, cut with an ellipsis at 4,096 bytes; None if there is none."""
    if value is None or value == "":
        return None
    raw = str(value).encode(errors="backslashreplace")
    if len(raw) > MAX_TEXT_BYTES:
        raw = _cut(raw, MAX_TEXT_BYTES - len(_ELLIPSIS)) + _ELLIPSIS
    return raw.decode()


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}"


def _cut(raw: bytes, size: int) -> bytes:
    """At most `size` bytes of UTF-8, no character halved."""
    return raw[:size].decode(errors="ignore").encode()
