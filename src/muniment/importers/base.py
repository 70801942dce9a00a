"""What an importer is: it reads a source, item by item, and changes nothing there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

import msgspec

from muniment.errors import InvalidEvent
from muniment.event import Event


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a source, or the problem that keeps it from being one.

    `where` names the place for a person (`export.jsonl:12`, `audit_logs id 7`). `position` is where
    a later run may go on behind this item; only sources that can be resumed give one.
    """

    where: str
    event: Event | None = None
    problem: InvalidEvent | None = None
    position: str | None = None


class Progress(NamedTuple):
    """How far an importer has read, in bytes of its source; `total` is None if nobody knows."""

    done: int
    total: int | None


class Importer(Protocol):
    """Reads one source.

    The same source gives the same events with the same event_ids each time, so recording them
    twice adds nothing. Items come one by one: memory doesn't grow with the source.
    """

    name: str
    """What the source is called in messages; no password stands in it."""

    def items(self) -> AsyncGenerator[Item, None]:
        """The source's items in its own order, once. Raises `MunimentError` if it can't be read."""
        ...

    def progress(self) -> Progress:
        """How far `items` has come."""
        ...
