"""Events for machines and for tables: what `--format` chooses between.

`jsonl` prints bodies exactly as they are stored, one a line. `json` is one object, of `events` and
`next_cursor`. `csv` is for spreadsheets (`muniment.formats`); shown on a terminal, what could
control it is escaped.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import msgspec

from muniment.cli.render import line_of, messages, output, table_of
from muniment.event import Event
from muniment.formats import COLUMNS, body_of, cells_of, csv_of, jsonl_of
from muniment.visible import visible

FORMATS: Final = ("table", "jsonl", "csv", "json")


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
        write_bytes(jsonl_of(events))


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
        rows: list[Sequence[str]] = [] if self._has_header else [COLUMNS]
        self._has_header = True
        is_shown = sys.stdout.isatty()
        for event in events:
            cells = cells_of(event)
            rows.append([visible(cell) for cell in cells] if is_shown else cells)
        write_bytes(csv_of(rows))

    def finish(self, next_cursor: str | None) -> None:
        self.write(())  # the header, if there was no event
        super().finish(next_cursor)
