"""Events as others read them: the stored bodies, and tables (CSV, RFC 4180).

CSV is for spreadsheets: a cell that one would take for a formula gets an apostrophe in front, and
so does one that begins with an apostrophe; so no value is lost, and taking one off gives each as it
was.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from muniment import canonical
from muniment.event import Event

# In ASCII, in the full-width forms that some spreadsheets take for the same, and behind white space
# that some of them skip.
_FORMULA_BEGINS: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n'")
COLUMNS: Final = (
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
"""The columns of a table of events, in their order."""


def body_of(event: Event) -> bytes:
    """The body of an event that was read: the very bytes that are stored."""
    return canonical.encode(event, max_details_bytes=sys.maxsize)


def jsonl_of(events: Iterable[Event]) -> bytes:
    """The bodies of events, one a line."""
    return b"".join(body_of(event) + b"\n" for event in events)


def cells_of(event: Event) -> list[str]:
    """What a table shows of an event, a cell for each of `COLUMNS`, safe for spreadsheets."""
    actor, context = event.actor, event.context
    target = event.targets[0] if event.targets else None
    targets = [msgspec.to_builtins(t) for t in event.targets]
    recorded_at = event.recorded_at
    values = (
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
    )
    return [_cell(value or "") for value in values]


def csv_of(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows of cells as CSV, each ended by CR LF."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA_BEGINS) else value
