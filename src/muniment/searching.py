"""Finding events: from the arguments of a search to a page, and the live tail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from muniment.actions import Catalogue
from muniment.canonical import decode
from muniment.errors import EventNotFound, InvalidQuery
from muniment.event import Event
from muniment.event_id import event_id_of, is_event_id, lowest_id_at, time_of
from muniment.query import (
    MAX_PAGE,
    Clause,
    EventFilter,
    Order,
    Page,
    ascii_lower,
    cursor_after,
    json_inner,
    make_filter,
    resume,
)
from muniment.stores.base import Place, Selection, Store, StoredEvent

_LAST: Final = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
"""The last millisecond that there is: none is next to it."""
_POLL: Final = 0.2
_TAIL_PAGE: Final = 1000
_AT_FIRST: Final = 50
_LOOKED_AT_FIRST: Final = 500
_GROWS: Final = 4
_HELD_BYTES: Final = 4 * 2**20


class Pace:
    """How many events to fetch next, `size`, for the memory to hold some megabytes of them.

    An event may take 300 bytes or a megabyte: it begins small, and goes by what came last.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = min(_AT_FIRST, most)

    def came(self, events: int, size: int) -> None:
        """Say how many came, and how many bytes they are."""
        fitting = _HELD_BYTES * events // size if size else self._most
        self.size = max(1, min(self._most, _GROWS * self.size, fitting))


class Stride:
    """How many events to look at next, `candidates`, for a budget of seconds to be kept.

    An event costs a microsecond or, with a large body, a millisecond: it begins small, and goes by
    what the last ones took. Raises `InvalidQuery`.
    """

    def __init__(self, budget: float, clock: Callable[[], float]) -> None:
        if type(budget) not in {int, float} or not budget >= 0:
            raise InvalidQuery("budget", f"{budget!r} is not a number of seconds, 0 or more")
        self._clock = clock
        self._now = clock()
        self._ends = self._now + budget
        self.candidates = _LOOKED_AT_FIRST

    def is_spent(self) -> bool:
        """Whether the budget is, after so many were looked at."""
        before, self._now = self._now, self._clock()
        left = self._ends - self._now
        growth = left / (2 * max(self._now - before, 0.001))
        self.candidates = max(1, int(self.candidates * min(max(growth, 1 / _GROWS), _GROWS)))
        return left <= 0


class Searcher:
    """Searches a store; with a `tenant_id`, that tenant only."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        *,
        tenant_id: str | None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._tenant_id = tenant_id
        self._clock = clock
        self._monotonic = monotonic

    async def search(
        self,
        given: Mapping[str, Any],
        *,
        order: Order,
        limit: int,
        cursor: str | None,
        budget: float | None = None,
    ) -> Page:
        """A page of up to `limit` events that the filter in `given` asks for.

        With a `budget`, in seconds, at least some events are looked at, whatever the time.
        """
        if order not in {"newest", "oldest"}:
            raise InvalidQuery("order", f"{order!r} is neither newest nor oldest")
        if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
            raise InvalidQuery("limit", f"{limit!r} is not a number from 1 to {MAX_PAGE}")
        stride = None if budget is None else Stride(budget, self._monotonic)
        wanted = self.filter(given)
        after = None
        if cursor is not None:
            place, wanted = resume(cursor, order, wanted)
            after = _place(place.event_id, place.tenant_id)
        selection = await self.selection(wanted, after, order, limit + 1)
        found: list[Event] = []
        while selection is not None:
            reached = await self._look(selection, wanted, stride, found)
            if len(found) > limit:
                last = found[limit - 1]
                ended = cursor_after(last.event_id, last.tenant_id, order, wanted)
                return Page(events=found[:limit], next_cursor=ended)
            if reached is None:
                break
            if stride is not None and stride.is_spent():
                event_id = event_id_of(reached[0])
                return Page(
                    events=found,
                    next_cursor=cursor_after(event_id, reached[1], order, wanted),
                    searched_to=time_of(event_id) if len(found) < limit else None,
                )
            selection = msgspec.structs.replace(selection, after=reached)
        return Page(events=found)

    async def _look(
        self,
        selection: Selection,
        wanted: EventFilter,
        stride: Stride | None,
        found: list[Event],
    ) -> Place | None:
        """Add the events that are found to `found`; returns how far that came, None for the end.

        Where the store may look at much and find little, what it looks at in one call is bounded.
        """
        upto = None
        looks_on = selection.text is not None or len(selection.clauses) > 1 or selection.without
        if stride is not None and looks_on:
            upto = await self._store.reach(selection, stride.candidates)
        nominated = await self._store.select(msgspec.structs.replace(selection, upto=upto))
        found += self._decide(nominated, wanted)
        if len(nominated) < selection.limit:
            return upto
        return _place(nominated[-1].event_id, nominated[-1].tenant_id)

    def now(self) -> datetime:
        """The time from which ages count."""
        return self._clock()

    async def stored(self, event_id: str, tenant_id: str | None) -> StoredEvent:
        """The stored event. Raises `EventNotFound`."""
        tenant_id = self.bound(tenant_id)
        msg = f"there is no event {event_id!r:.80}" + (f" of {tenant_id!r}" if tenant_id else "")
        if not isinstance(event_id, str) or not is_event_id(event_id):
            raise EventNotFound(msg)
        found = await self._store.get(event_id, tenant_id)
        if found is None:
            raise EventNotFound(msg)
        return found

    async def get(self, event_id: str, tenant_id: str | None) -> Event:
        """The event. Raises `EventNotFound`, also if its body was erased."""
        found = await self.stored(event_id, tenant_id)
        if found.body is None:
            msg = f"event {event_id} was erased; its leaf hash is {found.leaf_hash.hex()}"
            raise EventNotFound(msg)
        return decode(found.body)

    async def tail(
        self,
        given: Mapping[str, Any],
        *,
        after: str | None,
        follow: bool,
        started: Callable[[], None],
    ) -> AsyncIterator[Event]:
        """Matching events in the order of recording, from behind `after` or from now on."""
        wanted = self.filter(given)
        position = await self._start(after, wanted)
        started()
        pace = Pace(_TAIL_PAGE)
        while True:
            asked = pace.size
            read = await self._store.read(position, asked, wanted.tenant_id)
            for item in read:  # one by one: who takes them may be slow, and keep us waiting
                for event in self._decide([item.stored], wanted):
                    yield event
            if read:
                position = read[-1].position
                pace.came(len(read), sum(len(item.stored.body or "") for item in read))
            if len(read) < asked:
                if not follow:
                    return
                await asyncio.sleep(_POLL)

    async def _start(self, after: str | None, wanted: EventFilter) -> str | None:
        if after is None:
            return await self._store.last_position()
        found = await self.stored(after, wanted.tenant_id)
        return await self._store.position_of(after, found.tenant_id)

    def bound(self, tenant_id: str | None) -> str | None:
        """The tenant that is meant; None for all. Raises `InvalidQuery` if it isn't the log's."""
        if self._tenant_id is None or tenant_id in {None, self._tenant_id}:
            return self._tenant_id or tenant_id
        raise InvalidQuery(
            "tenant_id", f"is {tenant_id!r:.80}, but this log is bound to {self._tenant_id!r}"
        )

    def filter(self, given: Mapping[str, Any]) -> EventFilter:
        """The filter of a search's arguments. Raises `InvalidQuery`."""
        tenant_id = self.bound(given.get("tenant_id"))
        return make_filter(now=self._clock(), given={**given, "tenant_id": tenant_id})

    def _decide(self, nominated: list[StoredEvent], wanted: EventFilter) -> list[Event]:
        """Those of the nominated events that the filter asks for; erased ones have no say."""
        found = []
        for stored in nominated:
            if stored.body is not None:
                event = decode(stored.body)
                if wanted.matches(event, stored.body, self._catalogue.category_of):
                    found.append(event)
        return found

    async def selection(
        self, wanted: EventFilter, after: Place | None, order: Order, limit: int
    ) -> Selection | None:
        """What to ask the store for, or None if nothing can match."""
        clauses = []
        without: tuple[str, ...] = ()
        known: list[str] | None = None
        for clause in wanted.clauses():
            closed = clause
            if clause.is_open:
                if known is None:
                    known = await self._store.actions(wanted.tenant_id)
                closed, others = self._close(clause, known)
                if len(clause.activity) > 1 and len(others) < len(closed.exact):
                    # Most actions: passing over the few others is less than going by each of them.
                    without = others
                    continue
            if not closed.exact:
                return None
            clauses.append(closed)
        text = wanted.text
        return Selection(
            tenant_id=wanted.tenant_id,
            clauses=tuple(clauses),
            without=without,
            since_id=None if wanted.since is None else _floor(wanted.since),
            until_id=None if wanted.until is None else lowest_id_at(_ceiling(wanted.until)),
            text=None if text is None else ascii_lower(json_inner(text)),
            after=after,
            order=order,
            limit=limit,
        )

    def _close(self, clause: Clause, known: list[str]) -> tuple[Clause, tuple[str, ...]]:
        """The clause with every action that satisfies it spelled out, and those that don't."""
        fitting, others = list(clause.exact), list[str]()
        for action in known:
            is_fit = clause.admits(action, self._catalogue.category_of(action))
            (fitting if is_fit else others).append(f"action:{action}")
        return Clause(clause.kind, tuple(dict.fromkeys(fitting))), tuple(others)


def _floor(moment: datetime) -> bytes:
    """At or below every id of `moment`: an id may carry its time to the millisecond only."""
    return lowest_id_at(moment)[:6] + bytes(10)


def _ceiling(moment: datetime) -> datetime:
    """The next whole millisecond: an outside id of the same one may be above `moment`'s."""
    part = moment.microsecond % 1000
    if not part or moment > _LAST:
        return moment
    return moment + timedelta(microseconds=1000 - part)


def _place(event_id: str, tenant_id: str) -> Place:
    return UUID(event_id).bytes, tenant_id
