"""Counting event by event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from muniment.counting.tally import Stretch, Tally, events_of
from muniment.event import Event
from muniment.query import EventFilter
from muniment.stores.base import Selection, Store
from muniment.stores.counts import Facts

_FIRST_PART: Final = 8
"""The first part of a stretch is 2 ** -8 of it."""
_FIRST_GROWTH: Final = 4.0
_MOST_GROWTH: Final = 16.0


class Walk:
    """Goes through the events that a filter asks for, until `ends` by the `clock`."""

    def __init__(
        self, store: Store, wanted: EventFilter, *, clock: Callable[[], float], ends: float
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._clock = clock
        self._ends = ends
        self._paired = wanted.target_type is not None and wanted.target_id is not None

    async def count(
        self, stretches: list[Stretch], selection: Selection, tally: Tally
    ) -> list[Stretch]:
        """Count in `stretches`, one after the other; returns those that are not done.

        At least one page is counted, whatever the time.
        """
        for n, stretch in enumerate(stretches):
            if n and self._clock() >= self._ends:
                return stretches[n:]
            if not await self._count_stretch(stretch, selection, tally):
                return stretches[n:]
        return []

    async def _count_stretch(self, stretch: Stretch, selection: Selection, tally: Tally) -> bool:
        """Whether it was counted to its end.

        Where the store may look at much and find little, what it looks at in one call is bounded:
        by what it had time for before.
        """
        looks_on = selection.text is not None or len(selection.clauses) > 1
        step = (stretch.until - stretch.since) >> (_FIRST_PART if looks_on else 0)
        until, now, least = stretch.until, self._clock(), 0.0
        while until > stretch.since:
            since = max(stretch.since, until - max(1, step))
            window = msgspec.structs.replace(
                selection, since_id=_lowest(since), until_id=_lowest(until)
            )
            if not await self._count_window(window, stretch, tally):
                return False
            until, began, now = since, now, self._clock()
            if now >= self._ends:
                return until == stretch.since
            took, left = now - began, self._ends - now
            if not least:
                least, growth = took, min(left / (2 * max(took, 0.001)), _FIRST_GROWTH)
            else:
                # A call costs something however little it looks at: about what the least did.
                least = min(least, took)
                growth = left / (2 * max(took - least, 0.001))
            step = int(step * min(max(growth, 0.25), _MOST_GROWTH)) + 1
        return True

    async def _count_window(self, window: Selection, stretch: Stretch, tally: Tally) -> bool:
        """Whether it was counted to its end."""
        while True:
            page = await self._store.facts(window)
            for found in await self._sift(page) if self._paired else page:
                tally.add(found, stretch)
            if len(page) < window.limit:
                return True
            if self._clock() >= self._ends:
                return False
            last = page[-1]
            window = msgspec.structs.replace(window, after=(last.event_id, last.tenant_id))

    async def _sift(self, page: list[Facts]) -> list[Facts]:
        """Those with such a target: terms don't say which type goes with which of several ids."""
        unsure = [
            found
            for found in page
            if len(set(found.values("target"))) > 1 and len(set(found.values("target_type"))) > 1
        ]
        if not unsure:
            return page
        events = await events_of(self._store, unsure)
        wrong = {found for found in unsure if not _has_target(events.get(found), self._wanted)}
        return [found for found in page if found not in wrong]


def _has_target(event: Event | None, wanted: EventFilter) -> bool:
    return event is not None and any(
        (target.type, target.id) == (wanted.target_type, wanted.target_id)
        for target in event.targets
    )


def _lowest(milliseconds: int) -> bytes:
    return milliseconds.to_bytes(6, "big") + bytes(10)
