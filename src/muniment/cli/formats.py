"""Events for machines and for tables: what `--format` chooses between.

`jsonl` prints bodies exactly as they are stored, one a line. `json` is one object, of `events` and
`next_cursor`. `csv` (RFC 4180) is for spreadsheets: a cell that one would take for a formula gets
an apostrophe in front, and so does one that begins with an apostrophe; so no value is lost, and
taking one off gives each as it was. Shown on a terminal, what could control it is escaped.
"""

from __future__ import annotations

import csv
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import msgspec

from muniment import canonical
from muniment.cli.render import line_of, messages, output, table_of
from muniment.cli.visible import visible
from muniment.event import Event

FORMATS: Final = ("table", "jsonl", "csv", "json")
# In ASCII, in the full-width forms that some spreadsheets take for the same, and behind white space
# that some of them skip.
_FORMULA_BEGINS: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n'")
_COLUMNS: Final = (
    "event_id",
    "occurred_at",
    "recorded_at",
    "tenant_id",
    "action",
    "outcome",
    "reason",
    "actor_type",
    "actor_id",
    "actor_name",
    "user_id",
    "agent_id",
    "target_type",
    "target_id",
    "targets",
    "ip",
    "request_id",
    "trace_id",
    "run_id",
    "service",
    "organization_id",
    "details",
)


class EventWriter(ABC):
    """Writes the events of a search to stdout, page by page."""

    @abstractmethod
    def write(self, events: Sequence[Event]) -> None:
        """Write some events."""

    def finish(self, next_cursor: str | None) -> None:
        """Write the end, and how to go on if there is more."""
        if next_cursor is not None:
            messages().print(f"There is more: add --cursor {next_cursor}", soft_wrap=True)


def writer_of(format: str, *, with_ids: bool = False) -> EventWriter:
    """The writer of one of `FORMATS`."""
    if format == "jsonl":
        return _Jsonl()
    if format == "csv":
        return _Csv()
    if format == "json":
        return _Json()
    return _Tables(with_ids=with_ids)


def body_of(event: Event) -> bytes:
    """The body of an event that was read: the very bytes that are stored."""
    return canonical.encode(event, max_details_bytes=sys.maxsize)


def write_bytes(data: bytes) -> None:
    """Write to stdout as it is, whatever the locale, and at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class _Tables(EventWriter):
    def __init__(self, *, with_ids: bool) -> None:
        self._with_ids = with_ids
        self._is_empty = True

    def write(self, events: Sequence[Event]) -> None:
        if events:
            self._is_empty = False
            console = output()
            if not self._with_ids:
                console.print(table_of(events, width=console.width))
                return
            for event in events:
                console.print(line_of(event, with_id=True), soft_wrap=True)

    def finish(self, next_cursor: str | None) -> None:
        if self._is_empty:
            messages().print("No events found.")
        super().finish(next_cursor)


class _Jsonl(EventWriter):
    def write(self, events: Sequence[Event]) -> None:
        write_bytes(b"".join(body_of(event) + b"\n" for event in events))


class _Json(EventWriter):
    def __init__(self) -> None:
        self._separator = b'{"events":[\n'

    def write(self, events: Sequence[Event]) -> None:
        for event in events:
            write_bytes(self._separator + body_of(event))
            self._separator = b",\n"

    def finish(self, next_cursor: str | None) -> None:
        opening = b'{"events":[' if self._separator.startswith(b"{") else b"\n"
        write_bytes(opening + b'],"next_cursor":' + msgspec.json.encode(next_cursor) + b"}\n")


class _Csv(EventWriter):
    def __init__(self) -> None:
        self._has_header = False

    def write(self, events: Sequence[Event]) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        if not self._has_header:
            writer.writerow(_COLUMNS)
            self._has_header = True
        is_shown = sys.stdout.isatty()
        for event in events:
            cells = [_csv_cell(value or "") for value in _csv_values(event)]
            writer.writerow([visible(cell) for cell in cells] if is_shown else cells)
        write_bytes(text.getvalue().encode())

    def finish(self, next_cursor: str | None) -> None:
        self.write(())  # the header, if there was no event
        super().finish(next_cursor)


def _csv_values(event: Event) -> list[str | None]:
    actor, context = event.actor, event.context
    target = event.targets[0] if event.targets else None
    targets = [msgspec.to_builtins(t) for t in event.targets]
    recorded_at = event.recorded_at
    return [
        event.event_id,
        event.occurred_at.isoformat(),
        None if recorded_at is None else recorded_at.isoformat(),
        event.tenant_id,
        event.action,
        event.outcome.value,
        event.reason,
        actor.type,
        actor.id,
        actor.name,
        event.user_id,
        event.agent_id,
        None if target is None else target.type,
        None if target is None else target.id,
        canonical.canonical_json(targets).decode(),
        context.ip,
        context.request_id,
        context.trace_id,
        context.run_id,
        context.service,
        event.organization_id,
        canonical.canonical_json(event.details).decode(),
    ]


def _csv_cell(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA_BEGINS) else value
