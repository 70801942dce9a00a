"""What the writers have written."""

from __future__ import annotations

from muniment import AuditLog, Event


async def events_in(url: str) -> list[Event]:
    """All events in a store, oldest first."""
    async with AuditLog.open(url) as log:
        events: list[Event] = []
        cursor = None
        while True:
            page = await log.search(order="oldest", limit=200, cursor=cursor)
            events += page.events
            cursor = page.next_cursor
            if cursor is None:
                return events


async def only_event(url: str) -> Event:
    """The one event in a store."""
    (event,) = await events_in(url)
    return event
