"""Counts what a filter asks for: by the store's cells, then event by event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, Final, get_args

import msgspec

from muniment.actions import Activity, Catalogue
from muniment.counting.counted import Counted
from muniment.counting.ranges import LAST, Range, make_range, with_bars
from muniment.counting.tally import (
    Stretch,
    Tally,
    bars_of,
    facet_of,
    facet_of_activities,
    facets_of_kinds,
    facets_of_names,
)
from muniment.counting.tenants import count_tenants
from muniment.counting.walking import Walk
from muniment.errors import InvalidQuery
from muniment.event_id import moment_of
from muniment.query import EventFilter, Order
from muniment.stores.base import Selection, Store
from muniment.stores.counts import DAY, HOUR, Bars

MAX_BARS: Final = 1000
_BY_CELLS: Final = frozenset(
    {"tenant_id", "action", "category", "activity", "outcome", "since", "until"}
)
_PER_SECOND: Final = 100_000
"""Events that are counted one by one in a second, or less."""
_PAGE: Final = 2000
_TENANTS_SHARE: Final = 0.4
_OTHERS_SHARE: Final = 0.6
"""Parts of the budget after which these are left as they are."""

Select = Callable[[EventFilter, tuple[bytes, str] | None, Order, int], Awaitable[Selection | None]]
"""As `Searcher.selection` is."""


async def count(
    store: Store,
    catalogue: Catalogue,
    wanted: EventFilter,
    *,
    now: datetime,
    select: Select,
    bars: int,
    budget: float,
    clock: Callable[[], float] = monotonic,
) -> Counted:
    """How many events a filter asks for, in about so many `bars`.

    `budget` and `clock` are in seconds; `select` makes the selection that a filter comes to. Raises
    `InvalidQuery`.
    """
    if type(bars) is not int or not 1 <= bars <= MAX_BARS:
        raise InvalidQuery("bars", f"{bars!r} is not a number from 1 to {MAX_BARS}")
    if type(budget) not in {int, float} or not budget >= 0:
        raise InvalidQuery("budget", f"{budget!r} is not a number of seconds, 0 or more")
    begun = clock()
    span = make_range(wanted, now, bars)
    tally, stretches = await _count_cells(store, catalogue, wanted, span, budget)
    walk = partial(_walk, store, select=select, clock=clock)
    has_tenants = has_others = True
    by_cells = [(each.since, each.until) for each in stretches if not each.totals]
    if wanted.tenant_id is None and by_cells:
        admits = partial(_admits, wanted, catalogue)
        ends = begun + budget * _TENANTS_SHARE
        has_tenants = await count_tenants(
            store, *by_cells[0], tally, admits, clock=clock, ends=ends
        )
    unseen = stretches
    if budget:
        if others := _others(wanted):
            beside, parts = Tally(tally.span), [each for each in stretches if each.totals]
            ends = begun + budget * _OTHERS_SHARE
            has_others = not await walk(others, parts, beside, ends=ends)
            tally.beside += beside.kinds
        unseen = await walk(wanted, stretches, tally, ends=begun + budget)
    exact = not any(stretch.totals for stretch in unseen)
    facets = {
        **facets_of_kinds(tally, catalogue, exact=exact),
        "activity": facet_of_activities(tally, catalogue, exact=exact and has_others),
        **await facets_of_names(tally, store, exact=not unseen),
    }
    if wanted.tenant_id is None:
        facets["tenant"] = facet_of(tally.tenants, exact=exact and has_tenants)
    return Counted(
        since=moment_of(tally.span.start * 1000),
        until=moment_of(min(tally.span.end * 1000, LAST)),
        width=tally.span.width // 1000,
        events=sum(tally.kinds.values()),
        exact=exact and not any(stretch.bars for stretch in unseen),
        bars=bars_of(tally),
        facets=facets,
    )


def _others(wanted: EventFilter) -> EventFilter | None:
    """The filter that asks for the same of the other activities, if one asks for some."""
    others = tuple(each for each in get_args(Activity) if each not in wanted.activity)
    if not wanted.activity or not others:
        return None
    return msgspec.structs.replace(wanted, activity=others)


async def _walk(
    store: Store,
    wanted: EventFilter,
    stretches: list[Stretch],
    tally: Tally,
    *,
    select: Select,
    clock: Callable[[], float],
    ends: float,
) -> list[Stretch]:
    """Count in `stretches` event by event; returns those that are not done."""
    anywhen = msgspec.structs.replace(wanted, since=None, until=None)
    selection = await select(anywhen, None, "newest", _PAGE)
    if selection is None:
        return []
    return await Walk(store, wanted, clock=clock, ends=ends).count(stretches, selection, tally)


async def _count_cells(
    store: Store, catalogue: Catalogue, wanted: EventFilter, span: Range, budget: float
) -> tuple[Tally, list[Stretch]]:
    """What the cells say, and what is left to count event by event."""
    first, last = -(-span.since // HOUR) * HOUR, span.until // HOUR * HOUR
    asked = {name for name, value in msgspec.structs.asdict(wanted).items() if value}
    if not asked <= _BY_CELLS or first >= last:
        return Tally(span), [Stretch(span.since, span.until, totals=True, bars=True)]
    tally = Tally(span)
    others = _others(wanted)
    by_bar = span.width % HOUR == 0
    bars = Bars(span.start, span.width) if by_bar else Bars(first, HOUR)
    for since, until, width in _cells(first, last, span.width):
        for cell in await store.counts.cells(wanted.tenant_id, since, until, width, bars):
            if _admits(wanted, catalogue, cell.action, cell.outcome):
                tally.kinds[cell.action, cell.outcome] += cell.events
                tally.bars[(cell.start - bars.origin) // bars.width][cell.outcome] += cell.events
            elif others and _admits(others, catalogue, cell.action, cell.outcome):
                tally.beside[cell.action, cell.outcome] += cell.events
    if not by_bar:
        if tally.kinds.total() > budget * _PER_SECOND:
            # More than can be counted one by one: bars of an hour are better than a part of them.
            wider = with_bars(wanted, span.since, span.until, HOUR)
            return await _count_cells(store, catalogue, wanted, wider, budget)
        tally.bars.clear()
    edges = [(last, span.until), (span.since, first)]
    stretches = [Stretch(*edge, totals=True, bars=True) for edge in edges if edge[0] < edge[1]]
    return tally, [*stretches, Stretch(first, last, totals=False, bars=not by_bar)]


def _cells(first: int, last: int, width: int) -> Iterator[tuple[int, int, Any]]:
    """The widest cells that make up the whole hours, none of which is cut by a bar."""
    if width % DAY == 0:
        first_day, last_day = -(-first // DAY) * DAY, last // DAY * DAY
        if first_day < last_day:
            yield first_day, last_day, DAY
            if first < first_day:
                yield first, first_day, HOUR
            if last_day < last:
                yield last_day, last, HOUR
            return
    yield first, last, HOUR


def _admits(wanted: EventFilter, catalogue: Catalogue, action: str, outcome: str) -> bool:
    """Whether events of that kind satisfy a filter that asks for nothing else."""
    for clause in wanted.clauses():
        if clause.kind == "outcome":
            if f"outcome:{outcome}" not in clause.exact:
                return False
        elif not clause.admits(action, catalogue.category_of(action)):
            return False
    return True
