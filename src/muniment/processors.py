"""Processors: plain callables `Event -> Event` that a log runs over each event before it is sealed.

They run in the order given, once for each event. What they fill in where the source left a field
empty is named in the event's `stamped`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from muniment.event import Change, Context, Event

Processor = Callable[[Event], Event]
REDACTED: Final = "[redacted]"


def enrich(**context: str) -> Processor:
    """Fill in fields of the context that the source left empty, such as `service="billing"`."""
    Context(**context)  # an unknown name or a bad value shows here, not with the first event

    def fill_in(event: Event) -> Event:
        missing = {k: v for k, v in context.items() if getattr(event.context, k) is None}
        if not missing:
            return event
        return msgspec.structs.replace(
            event, context=msgspec.structs.replace(event.context, **missing)
        )

    return fill_in


def redact(*names: str) -> Processor:
    """Replace the values of these keys, anywhere in details and changes, and of these fields.

    Names are compared without regard to case.
    """
    hidden = frozenset(name.lower() for name in names)

    def hide(event: Event) -> Event:
        details, found = _hide(event.details, hidden)
        changes = tuple(_hide_in_change(change, hidden) for change in event.changes)
        if not found and all(map(operator.is_, changes, event.changes)):
            return event
        return msgspec.structs.replace(event, details=details, changes=changes)

    return hide


def _hide_in_change(change: Change, hidden: frozenset[str]) -> Change:
    if change.field.lower() in hidden:
        return msgspec.structs.replace(
            change,
            old=None if change.old is None else REDACTED,
            new=None if change.new is None else REDACTED,
        )
    old, in_old = _hide(change.old, hidden)
    new, in_new = _hide(change.new, hidden)
    return msgspec.structs.replace(change, old=old, new=new) if in_old or in_new else change


def _hide(value: Any, hidden: frozenset[str], depth: int = 0) -> tuple[Any, bool]:
    """A copy without the hidden values, and whether there was one."""
    if depth > 64:
        return value, False  # too deep to be recorded: sealing says so
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        found = False
        copy = {}
        for key, item in value.items():
            if isinstance(key, str) and key.lower() in hidden:
                copy[key], found = REDACTED, True
            else:
                copy[key], inner = _hide(item, hidden, depth + 1)
                found = found or inner
        return (copy, True) if found else (value, False)
    if isinstance(value, list | tuple):
        parts = [_hide(item, hidden, depth + 1) for item in value]
        if any(inner for _, inner in parts):
            return [item for item, _ in parts], True
    return value, False


def stamped_fields(source: Event, processed: Event) -> tuple[str, ...]:
    """The paths that are filled in `processed` and were empty in `source`."""
    if processed is source:
        return ()
    found = [
        name
        for name in ("reason", "organization_id", "targets", "changes")
        if not getattr(source, name) and getattr(processed, name)
    ]
    found.extend(
        f"context.{name}"
        for name in Context.__struct_fields__
        if getattr(source.context, name) is None and getattr(processed.context, name) is not None
    )
    found.extend(f"details.{key}" for key in processed.details if key not in source.details)
    return tuple(found)
