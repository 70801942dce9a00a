"""What a field may hold: each check raises `InvalidEvent` with the field and the remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from muniment.errors import InvalidEvent

MAX_ID_BYTES: Final = 512
MAX_TEXT_BYTES: Final = 4096
_SHORT: Final = MAX_ID_BYTES // 4


def check_id(path: str, value: str) -> None:
    """Accept 1 to 512 bytes of UTF-8 without control characters: it must fit every index."""
    if type(value) is str and 0 < len(value) <= _SHORT and value.isprintable():
        return
    if type(value) is not str:
        raise InvalidEvent(path, wrong_type("a string", value))
    if not value:
        raise InvalidEvent(path, "is empty; leave it out, or give it a value")
    if len(as_utf8(path, value)) > MAX_ID_BYTES:
        raise InvalidEvent(path, f"is over {MAX_ID_BYTES} bytes of UTF-8; use a shorter id")
    bad = next((c for c in value if c < " " or "\x7f" <= c <= "\x9f"), None)
    if bad is not None:
        raise InvalidEvent(path, f"has the control character U+{ord(bad):04X}; remove it")


def check_text(path: str, value: str) -> None:
    """Free text is up to 4,096 bytes of UTF-8; any character may stand in it."""
    if type(value) is not str:
        raise InvalidEvent(path, wrong_type("a string", value))
    if value.isascii() and len(value) <= MAX_TEXT_BYTES:
        return
    if len(as_utf8(path, value)) > MAX_TEXT_BYTES:
        raise InvalidEvent(
            path, f"is over {MAX_TEXT_BYTES} bytes of UTF-8; put long text into details"
        )


def as_utf8(path: str, value: str) -> bytes:
    """The UTF-8 of a text of any length; a lone surrogate has none."""
    if not isinstance(value, str):
        raise InvalidEvent(path, wrong_type("a string", value))
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        bad = ord(value[error.start])
        raise InvalidEvent(path, f"has the lone surrogate U+{bad:04X}; it isn't text") from None


def as_utc(path: str, value: datetime) -> datetime:
    """The same moment in UTC, as a plain datetime; it must have a time zone."""
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if not isinstance(value, datetime):
        raise InvalidEvent(path, wrong_type("a datetime", value))
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidEvent(path, "has no time zone; use datetime.now(UTC)")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent(path, "is out of the range of times") from None
    # A body can't be encoded from a subclass, such as those of date libraries.
    return datetime.combine(moment.date(), moment.time(), UTC)


def wrong_type(wanted: str, value: object) -> str:
    """The problem of a value of another type than `wanted`."""
    return f"is {type(value).__name__}, not {wanted}"
