"""The quarantine: events that the store refused for their own sake, where people can read them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from muniment.spool.directory import write_file
from muniment.stores.base import Sealed

QUARANTINE: Final = "quarantine"


class _Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    reason: str
    event_id: str
    tenant_id: str
    quarantined_at: str
    body: msgspec.Raw


def put_in_quarantine(base: Path, event: Sealed, reason: str, now: float) -> tuple[Path, bool]:
    """Write the event to `base`/quarantine, durably and whole or not at all.

    Returns the file, and whether it is new. The name is EVENT_ID.json; EVENT_ID.2.json and so on if
    another event has it already. The same event again changes nothing. `now` is Unix seconds.
    Raises `OSError`.
    """
    at = datetime.fromtimestamp(now, UTC).isoformat()
    data = _document(event, reason.encode("utf-8", "backslashreplace").decode(), at)
    names = (f"{event.event_id}{'' if n == 1 else f'.{n}'}.json" for n in count(1))
    path = base / QUARANTINE / next(names)
    while path.exists():
        if _holds(path, event):
            return path, False
        path = path.with_name(next(names))
    write_file(path, data)
    return path, True


def _document(event: Sealed, reason: str, at: str) -> bytes:
    try:
        msgspec.json.decode(event.body)
        body = msgspec.Raw(event.body)
    except ValueError:
        # Refused because of it, perhaps: it is shown as far as it is text.
        text = event.body.decode("utf-8", "backslashreplace")
        body = msgspec.Raw(msgspec.json.encode(text))
    document = _Quarantined(
        reason=reason,
        event_id=event.event_id,
        tenant_id=event.tenant_id,
        quarantined_at=at,
        body=body,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _holds(path: Path, event: Sealed) -> bool:
    """Whether the file is what this event gave, for whatever reason and whenever it did."""
    data = path.read_bytes()
    try:
        there = msgspec.json.decode(data, type=_Quarantined)
    except ValueError:
        return False
    return _document(event, there.reason, there.quarantined_at) == data
