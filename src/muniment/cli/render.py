"""Events as people read them: a table, a line, or a whole sheet for one of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from muniment.actions import ActionInfo
from muniment.event import Actor, Event, Outcome
from muniment.visible import visible

_MANY_TARGETS: Final = 3
_WIDE: Final = 110
_NAMES: Final = ("tenant", "action", "actor", "target")
_GAP: Final = 2
_OUTCOME_WIDTH: Final = 7
_NARROWEST: Final = 4
_UNFOLDED: Final = 10_000
_STYLES: Final[Mapping[Outcome, str]] = {
    Outcome.SUCCESS: "green",
    Outcome.FAILURE: "red",
    Outcome.DENIED: "bold yellow",
    Outcome.UNKNOWN: "dim",
}


class _Output(Console):
    """A console that leaves it to the command line what a reader's leaving means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def output() -> Console:
    """The console of stdout: colour on a terminal only; elsewhere lines are as long as they are."""
    return _console(stderr=False)


def messages() -> Console:
    """The console of stderr, for hints and progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    is_open_ended = not stream.isatty() and "COLUMNS" not in os.environ
    return _Output(
        file=stream,
        width=_UNFOLDED if is_open_ended else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def table_of(events: Sequence[Event], *, width: int) -> Table:
    """A table of events, `width` columns wide at most; long values fold: nothing is cut off.

    A narrow one has the names of actors and targets without their ids. Where an event does not fit
    on a line, each actor of a chain has one of its own.
    """
    is_wide = width >= _WIDE
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold dim")
    time_width = 19 if is_wide else 10
    room = width - time_width - _OUTCOME_WIDTH - _GAP * (len(_NAMES) + 1)
    table.add_column("time (UTC)", width=time_width)
    rows = [_columns(event, is_wide=is_wide) for event in events]
    if any(sum(map(cell_len, row)) > room for row in rows):
        rows = [_columns(event, is_wide=is_wide, link="\nfor ") for event in events]
    widths = _widths(rows, room)
    for name, column_width in zip(_NAMES, widths, strict=True):
        table.add_column(name, overflow="fold", width=column_width)
    table.add_column("outcome", width=_OUTCOME_WIDTH)
    for event, row in zip(events, rows, strict=True):
        cells = [Text(moment(event.occurred_at)), *map(Text, row), _outcome(event)]
        table.add_row(*cells)
    return table


def _natural_widths(rows: Sequence[Sequence[str]], parts: Callable[[str], list[str]]) -> list[int]:
    columns = zip(_NAMES, *rows, strict=True)
    return [
        max(cell_len(part) for cell in column for part in parts(cell) or [""]) for column in columns
    ]


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of the columns between time and outcome, `room` together if that can be."""
    widths = _natural_widths(rows, str.splitlines)
    words = _natural_widths(rows, str.split)
    for n in reversed(range(len(widths))):  # targets fold first, and no word is broken yet
        widths[n] = max(words[n], widths[n] - max(0, sum(widths) - room))
    while sum(widths) > room and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def line_of(event: Event, *, with_id: bool = False) -> Text:
    """One line for an event, as the live tail shows it."""
    line = Text(f"{event.event_id}  " if with_id else "", style="dim")
    line.append(moment(event.occurred_at))
    tenant, action, actor, target = _columns(event, is_wide=True)
    line.append(f"  {tenant}  ", style="not dim")
    line.append(action, style="bold not dim")
    line.append(f"  {actor}", style="not dim")
    if target:
        line.append(f" → {target}", style="not dim")
    line.append("  ")
    line.append_text(_outcome(event))
    return line


def sheet_of(event: Event, info: ActionInfo, leaf_hash: bytes) -> Table:
    """Everything there is about one event."""
    sheet = Table.grid(padding=(0, 2))
    sheet.add_column(style="dim", no_wrap=True)
    sheet.add_column(overflow="fold")
    for name, value in _sheet_lines(event, info):
        cell = value if isinstance(value, Text) else _cell(value)
        sheet.add_row(Text(name), cell)
    sheet.add_row(Text("leaf_hash"), Text(leaf_hash.hex()))
    return sheet


def details_of(event: Event) -> Iterator[Text]:
    """The details, as indented JSON, line by line."""
    text = json.dumps(event.details, ensure_ascii=False, indent=2, sort_keys=True)
    return (Text(visible(line)) for line in text.split("\n"))


def moment(time: datetime) -> str:
    """A time in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _columns(event: Event, *, is_wide: bool, link: str = " for ") -> tuple[str, str, str, str]:
    """Tenant, action, actor and targets, safe to show."""
    shorten = _full if is_wide else _short
    actors = [_typed_actor(link, shorten(link.id, link.name)) for link in event.actor.chain()]
    targets = [f"{t.type} {shorten(t.id, t.name)}" for t in event.targets[:_MANY_TARGETS]]
    more = len(event.targets) - _MANY_TARGETS
    if more > 0:
        targets.append(f"and {more} more")
    return (
        visible(event.tenant_id),
        visible(event.action),
        link.join(map(visible, actors)),
        ", ".join(map(visible, targets)),
    )


def _typed_actor(actor: Actor, name: str) -> str:
    return name if actor.type in {"user", actor.id} else f"{actor.type} {name}"


def _full(id: str, name: str | None) -> str:
    return f"{name} ({id})" if name and name != id else id


def _short(id: str, name: str | None) -> str:
    return name or id


def _outcome(event: Event) -> Text:
    return Text(event.outcome.value, style=_STYLES[event.outcome])


def _cell(value: object) -> Text:
    return Text(visible(str(value)))


def _sheet_lines(event: Event, info: ActionInfo) -> Iterator[tuple[str, Any]]:
    yield "event_id", event.event_id
    yield "action", f"{event.action}  ({info.title}; {info.category}, severity {info.severity})"
    yield "outcome", _outcome(event)
    if event.reason is not None:
        yield "reason", event.reason
    yield "tenant", event.tenant_id
    if event.organization_id is not None:
        yield "organization", event.organization_id
    for n, link in enumerate(event.actor.chain()):
        yield ("on behalf of" if n else "actor"), f"{link.type} {_full(link.id, link.name)}"
    for target in event.targets:
        yield "target", f"{target.type} {_full(target.id, target.name)}"
    for change in event.changes:
        old, new = (json.dumps(v, ensure_ascii=False) for v in (change.old, change.new))
        yield "change", f"{change.field}: {old} → {new}"
    yield "occurred_at", event.occurred_at.isoformat()
    if event.recorded_at is not None:
        yield "recorded_at", event.recorded_at.isoformat()
    for name, value in msgspec.structs.asdict(event.context).items():
        if value is not None:
            yield name, value
    if event.idempotency_key is not None:
        yield "idempotency_key", event.idempotency_key
    if event.stamped:
        yield "stamped", ", ".join(event.stamped)
