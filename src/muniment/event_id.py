"""Event ids: UUIDv7 (RFC 9562, section 5.7) made from the time at which an event occurred.

Order of ids is order of time, down to the microsecond: the first 48 bits are Unix milliseconds,
the 12 bits of `rand_a` carry the microseconds within (section 6.2, method 3), and the last 62 are
random, or a hash of an outside key, so that the same key and time give the same id every time.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = "e677d21f-dbff"  # the last millisecond of the year 9999, where datetime ends
_KEY_DOMAIN = b"muniment event id\x00"


def microseconds(moment: datetime) -> int:
    """Whole microseconds from 1970-01-01 UTC to `moment` (aware)."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment_of(micros: int) -> datetime:
    """The aware UTC datetime at `micros` microseconds after 1970-01-01 UTC."""
    return EPOCH + micros * _MICROSECOND


def make_event_id(occurred_at: datetime, entropy: bytes) -> str:
    """A UUIDv7, as text, from a time (1970 or later) and at least 8 bytes of `entropy`."""
    delta = occurred_at - EPOCH
    millis, micros = divmod(
        (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds, 1000
    )
    if millis < 0:
        msg = "an event_id carries times from 1970 on"
        raise ValueError(msg)
    low = entropy[:8].hex()
    return (
        f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{micros * 4096 // 1000:03x}-"
        f"{'89ab'[entropy[0] >> 4 & 3]}{low[1:4]}-{low[4:]}"
    )


def event_id_of_key(occurred_at: datetime, tenant_id: str, key: str) -> str:
    """The UUIDv7 that an outside id or idempotency key has at that time, in that tenant."""
    digest = hashlib.sha256(_KEY_DOMAIN + tenant_id.encode() + b"\x00" + key.encode()).digest()
    return make_event_id(occurred_at, digest)


def event_id_of(raw: bytes) -> str:
    """The event_id of 16 bytes, as text."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch


def is_event_id(text: str) -> bool:
    """Whether `text` is a UUIDv7 in the canonical lower-case form, of a time up to year 9999."""
    return _FORM(text) is not None and text[:13] <= _LATEST


def milliseconds_of(event_id: str) -> int:
    """The Unix time in milliseconds that an event_id carries."""
    return int(event_id[:8] + event_id[9:13], 16)


def time_of(event_id: str) -> datetime:
    """The time, to the millisecond, that an event_id carries."""
    return moment_of(milliseconds_of(event_id) * 1000)


def lowest_id_at(moment: datetime) -> bytes:
    """The 16 bytes below every event_id of `moment` or later, and above those of earlier ones.

    Times before 1970 count as 1970.
    """
    millis, micros = divmod(max(0, microseconds(moment)), 1000)
    return (
        millis.to_bytes(6, "big") + (0x7000 | micros * 4096 // 1000).to_bytes(2, "big") + bytes(8)
    )
