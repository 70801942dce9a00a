"""Events as people read them: a table, a line, or a whole sheet for one of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from muniment.actions import ActionInfo
from muniment.cli.visible import visible
from muniment.event import Actor, Event, Outcome, Target

_MANY_TARGETS: Final = 3
_WIDE: Final = 110
_WHOLE_WORD: Final = 24
_UNFOLDED: Final = 10_000
_STYLES: Final[Mapping[Outcome, str]] = {
    Outcome.SUCCESS: "green",
    Outcome.FAILURE: "red",
    Outcome.DENIED: "bold yellow",
    Outcome.UNKNOWN: "dim",
}


def output() -> Console:
    """The console of stdout: colour on a terminal only; elsewhere lines are as long as they are."""
    return _console(stderr=False)


def messages() -> Console:
    """The console of stderr, for hints and progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    is_open_ended = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=stream,
        width=_UNFOLDED if is_open_ended else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def table_of(events: Sequence[Event], *, width: int, with_ids: bool = False) -> Table:
    """A table of events, `width` columns wide at most; long values fold: nothing is cut off."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
    if with_ids:
        table.add_column("event_id", no_wrap=True, style="dim")
    table.add_column("time (UTC)", width=10 if width < _WIDE else 19)
    rows = [[visible(part) for part in _columns(event)] for event in events]
    for n, name in enumerate(("tenant", "action", "actor", "target")):
        longest = max((cell_len(row[n]) for row in rows), default=0)
        # Single words stay whole in a narrow terminal, sentences fold first.
        least = min(longest, _WHOLE_WORD) if name in {"tenant", "action"} else None
        table.add_column(name, overflow="fold", min_width=least)
    table.add_column("outcome", min_width=7)
    for event, row in zip(events, rows, strict=True):
        cells = [Text(moment(event.occurred_at)), *map(Text, row), _outcome(event)]
        table.add_row(*([Text(event.event_id)] if with_ids else []), *cells)
    return table


def line_of(event: Event) -> Text:
    """One line for an event, as the live tail shows it."""
    line = Text(moment(event.occurred_at), style="dim")
    tenant, action, actor, target = (visible(part) for part in _columns(event))
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
    return (Text(visible(line)) for line in text.splitlines())


def moment(time: datetime) -> str:
    """A time in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def actor_text(actor: Actor) -> str:
    """An actor and whom it acts for: `agent Ops bot (a7) for Ann (u1)`."""
    return " for ".join(_link(link) for link in actor.chain())


def _link(actor: Actor) -> str:
    kind = "" if actor.type in {"user", actor.id} else f"{actor.type} "
    return f"{kind}{_named(actor.id, actor.name)}"


def target_text(target: Target) -> str:
    """A target's type, name and id."""
    return f"{target.type} {_named(target.id, target.name)}"


def _named(id: str, name: str | None) -> str:
    return f"{name} ({id})" if name and name != id else id


def _columns(event: Event) -> tuple[str, str, str, str]:
    shown = [target_text(t) for t in event.targets[:_MANY_TARGETS]]
    more = len(event.targets) - _MANY_TARGETS
    if more > 0:
        shown.append(f"and {more} more")
    return event.tenant_id, event.action, actor_text(event.actor), ", ".join(shown)


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
        yield ("on behalf of" if n else "actor"), f"{link.type} {_named(link.id, link.name)}"
    for target in event.targets:
        yield "target", target_text(target)
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
