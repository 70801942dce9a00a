"""What stands around an event: in its request, run or session, and in the trail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from muniment.event import Event
from muniment.log import AuditLog
from muniment.query import Order, cursor_after, make_filter

_BEFORE: Final = 24
_AFTER: Final = 25
RELATIONS: Final = ("request_id", "run_id", "session_id", "trace_id")
"""What an event may have in common with others, the closest tie first."""


class Neighbours(msgspec.Struct, frozen=True, kw_only=True):
    """The events that share an id with one of them, oldest first, that one included.

    `relation` is the field that they share and `value` its value. `has_earlier` and `has_later` say
    that there are more at that end.
    """

    relation: str
    value: str
    events: tuple[Event, ...]
    has_earlier: bool
    has_later: bool


async def neighbours_of(log: AuditLog, event: Event) -> list[Neighbours]:
    """The neighbours of an event by each tie that it has to others; up to 50 of each."""
    ties = [(name, value) for name in RELATIONS if (value := getattr(event.context, name))]
    found = await asyncio.gather(*(_sharing(log, event, name, value) for name, value in ties))
    kept: list[Neighbours] = []
    for each in found:
        is_alone = len(each.events) == 1
        if not is_alone and all(each.events != other.events for other in kept):
            kept.append(each)
    return kept


async def _sharing(log: AuditLog, event: Event, relation: str, value: str) -> Neighbours:
    filters = {"tenant_id": event.tenant_id, relation: value}
    older, newer = await asyncio.gather(
        beside(log, event, filters, "newest", _BEFORE),
        beside(log, event, filters, "oldest", _AFTER),
    )
    return Neighbours(
        relation=relation,
        value=value,
        events=(*reversed(older[:_BEFORE]), event, *newer[:_AFTER]),
        has_earlier=len(older) > _BEFORE,
        has_later=len(newer) > _AFTER,
    )


async def beside(
    log: AuditLog, event: Event, filters: Mapping[str, Any], order: Order, limit: int
) -> list[Event]:
    """Up to `limit` + 1 events of a search that follow an event, which need not be among them.

    In the order "newest" those before it, in "oldest" those after it. Raises `InvalidQuery`.
    """
    given = dict(filters)
    cursor = cursor_after(
        event.event_id, event.tenant_id, order, make_filter(now=datetime.now(UTC), given=given)
    )
    page = await log.search(**given, order=order, limit=limit + 1, cursor=cursor)
    return page.events
