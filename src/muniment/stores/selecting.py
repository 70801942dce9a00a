"""Statements that find events, for both dialects.

Each search is driven by one clause: its terms' postings come in order of event_id, and the other
clauses are held against the `terms` of each event they lead to. Events behind the index (the
unindexed ones, few while indexing keeps up) are looked through one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from operator import ge, gt, le, lt
from typing import Any, Self

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
)

from muniment.query import TERM_SEPARATOR, Clause
from muniment.stores.base import Place, Selection
from muniment.stores.schema import EVERY_EVENT, Tables

_PROBE = 1000
_ALL = 2**31 - 1


class Statements:
    """Builds one dialect's statements over its tables."""

    def __init__(
        self,
        tables: Tables,
        *,
        sequence: Sequence[str],
        has_lateral: bool,
        position: Callable[[ColumnElement[Any], str], ColumnElement[int]],
        lower: Callable[[ColumnElement[Any]], ColumnElement[str]],
    ) -> None:
        self._tables = tables
        self._sequence = sequence
        self._has_lateral = has_lateral
        self._position = position
        self._lower = lower
        self.columns: tuple[str, ...] = ("tenant_id", "event_id", "leaf_hash", "body")

    def giving(self, *columns: str) -> Self:
        """The same statements, which give these columns of the events."""
        changed = copy(self)
        changed.columns = columns
        return changed

    def by_tenant(self, wanted: Selection) -> Select[Any]:
        """All events of a tenant, by the primary key: no clause to drive the search."""
        events = self._tables.events
        found = select(*self._columns(events)).where(events.c.tenant_id == wanted.tenant_id)
        found = found.where(
            *self._bounds(events, wanted),
            *self._lacks(events, wanted),
            *self._text(events, wanted),
        )
        return self._ordered(found, events, wanted)

    def by_terms(
        self, wanted: Selection, terms: Sequence[str], rest: Sequence[Clause]
    ) -> Select[Any]:
        """Indexed events that have one of `terms` and satisfy the `rest` of the clauses."""
        if len(terms) == 1:
            return self._driven(wanted, literal(terms[0]), rest)
        found, each = self._for_each(
            terms, lambda term, outer: self._driven(wanted, term, rest, outer)
        )
        return self._ordered(found, each, wanted)

    def unindexed(self, wanted: Selection) -> Select[Any]:
        """Events that are not in the index yet, looked through."""
        behind = self._behind_index()
        found = select(*self._columns(behind)).where(*self._unindexed(behind, wanted))
        return self._ordered(found.where(*self._text(behind, wanted)), behind, wanted)

    def edge_by_tenant(self, wanted: Selection) -> Select[Any]:
        """The last of what `by_tenant` looks at first, `limit` events, and how many they are."""
        events = self._tables.events
        keys = select(events.c.tenant_id, events.c.event_id)
        keys = keys.where(events.c.tenant_id == wanted.tenant_id, *self._bounds(events, wanted))
        return self._edge(keys, events, wanted)

    def edges_by_terms(self, wanted: Selection, terms: Sequence[str]) -> Select[Any]:
        """The same of `by_terms`: a place and a number for each term that has any events."""
        postings = self._tables.postings

        def edge(term: ColumnElement[str], outer: FromClause | None = None) -> Select[Any]:
            return self._edge(self._postings(wanted, term, outer), postings, wanted)

        return edge(literal(terms[0])) if len(terms) == 1 else self._for_each(terms, edge)[0]

    def edge_unindexed(self, wanted: Selection) -> Select[Any]:
        """The same of `unindexed`: of those that satisfy the clauses."""
        behind = self._behind_index()
        keys = select(behind.c.tenant_id, behind.c.event_id)
        return self._edge(keys.where(*self._unindexed(behind, wanted)), behind, wanted)

    def how_many(self, tenant_id: str | None, clause: Clause) -> Select[Any]:
        """How many postings a clause has, counted up to a thousand: a cheap guess at its cost."""
        postings = self._tables.postings
        some = select(literal(1).label("one")).where(postings.c.term.in_(clause.exact))
        if tenant_id is not None:
            some = some.where(postings.c.tenant_id == tenant_id)
        return select(func.count()).select_from(some.limit(_PROBE).subquery())

    def actions(
        self, tenant_id: str | None, action_of: Callable[[ColumnElement[str]], ColumnElement[str]]
    ) -> Any:
        """The distinct actions: those the index knows, and those of events not indexed yet."""
        actions, behind = self._tables.actions, self._behind_index()
        known = select(actions.c.action)
        new = select(action_of(behind.c.terms))
        if tenant_id is not None:
            known = known.where(actions.c.tenant_id == tenant_id)
            new = new.where(behind.c.tenant_id == tenant_id)
        return known.union(new)

    def _behind_index(self) -> FromClause:
        """The events that are not indexed yet.

        The limit excludes nothing: it keeps the planner from going through a whole tenant by its
        primary key where the end of the order of recording is what is wanted.
        """
        events, state = self._tables.events, self._tables.index_state
        order = [events.c[name] for name in self._sequence]
        start = [select(state.c[name]).scalar_subquery() for name in self._sequence]
        one = len(order) == 1
        behind = order[0] >= start[0] if one else tuple_(*order) >= tuple_(*start)
        return select(events).where(behind).order_by(*order).limit(_ALL).subquery("behind")

    def _unindexed(self, behind: FromClause, wanted: Selection) -> list[ColumnElement[bool]]:
        """What is wanted of the events behind the index, but for the text."""
        found: list[ColumnElement[bool]] = []
        if wanted.tenant_id is not None:
            found.append(behind.c.tenant_id == wanted.tenant_id)
        found += (self._has(behind, clause) for clause in wanted.clauses)
        return found + self._lacks(behind, wanted) + self._bounds(behind, wanted)

    def _for_each(
        self,
        terms: Sequence[str],
        made: Callable[[ColumnElement[str], FromClause | None], Select[Any]],
    ) -> tuple[Select[Any], FromClause]:
        """What is `made` for each of the terms, in one statement, and the part that it comes from.

        What is made is given a term as a literal, or as a column of an outer part.
        """
        if self._has_lateral:
            listed = (
                func.unnest(literal(list(terms), ARRAY(Text)))
                .table_valued("term")
                .render_derived("listed")
            )
            each = made(listed.c.term, listed).lateral("each")
            return select(*each.c).select_from(listed.join(each, true())), each
        parts = [made(literal(term), None).subquery() for term in terms]
        union = union_all(*(select(part) for part in parts)).subquery("each")
        return select(union), union

    def _edge(self, keys: Select[Any], source: FromClause, wanted: Selection) -> Select[Any]:
        """The last of the first `limit` keys, and how many they are: read twice, from an index."""
        first = self._ordered(keys, source, wanted)
        last = first.subquery("last")
        events = select(func.count()).select_from(first.subquery("first")).scalar_subquery()
        columns = (last.c.event_id, last.c.tenant_id)
        order = [c.asc() if wanted.order == "newest" else c.desc() for c in columns]
        return select(*columns, events.label("events")).order_by(*order).limit(1)

    def _driven(
        self,
        wanted: Selection,
        term: ColumnElement[str],
        rest: Sequence[Clause],
        outer: FromClause | None = None,
    ) -> Select[Any]:
        """Events that have a term: a literal, or a column of the `outer` part of the statement."""
        events, postings = self._tables.events, self._tables.postings
        drive = self._postings(wanted, term, outer)
        filters = [self._has(events, clause) for clause in rest]
        filters += self._lacks(events, wanted) + self._text(events, wanted)
        if filters:
            # Joined row by row in the order of the postings, and cut when the page is full.
            joined = drive.with_only_columns(*self._columns(events)).join(
                events,
                and_(
                    events.c.tenant_id == postings.c.tenant_id,
                    events.c.event_id == postings.c.event_id,
                ),
            )
            return self._ordered(joined.where(*filters), postings, wanted)
        keys = self._ordered(drive, postings, wanted).subquery("keys")
        found = select(*self._columns(events)).join_from(
            keys,
            events,
            and_(events.c.tenant_id == keys.c.tenant_id, events.c.event_id == keys.c.event_id),
        )
        return self._ordered(found, keys, wanted)

    def _postings(
        self, wanted: Selection, term: ColumnElement[str], outer: FromClause | None
    ) -> Select[Any]:
        """The keys of the indexed events that have a term."""
        postings = self._tables.postings
        keys = select(postings.c.tenant_id, postings.c.event_id).where(postings.c.term == term)
        if outer is not None:
            keys = keys.correlate(outer)  # however deep it comes to stand
        if wanted.tenant_id is not None:
            keys = keys.where(postings.c.tenant_id == wanted.tenant_id)
        return keys.where(*self._bounds(postings, wanted))

    def _ordered(self, found: Select[Any], source: FromClause, wanted: Selection) -> Select[Any]:
        columns: list[ColumnElement[Any]] = [source.c.event_id]
        if wanted.tenant_id is None:
            columns.append(source.c.tenant_id)
        if wanted.order == "newest":
            columns = [c.desc() for c in columns]
        return found.order_by(*columns).limit(wanted.limit)

    def _has(self, events: FromClause, clause: Clause) -> ColumnElement[bool]:
        """Whether an event has one of the clause's terms."""
        if clause.exact == (EVERY_EVENT,):
            return true()
        return or_(*(self._place(events, term) > 0 for term in clause.exact))

    def _lacks(self, events: FromClause, wanted: Selection) -> list[ColumnElement[bool]]:
        """Whether an event has none of the terms that it must not have."""
        # Not `== 0`: PostgreSQL would take such events for rare, and sort what it should walk.
        return [self._place(events, term) <= 0 for term in wanted.without]

    def _place(self, events: FromClause, term: str) -> ColumnElement[int]:
        """Where an event has a term, 0 if it hasn't; each stands between two separators."""
        return self._position(events.c.terms, f"{TERM_SEPARATOR}{term}{TERM_SEPARATOR}")

    def _text(self, events: FromClause, wanted: Selection) -> list[ColumnElement[bool]]:
        if wanted.text is None:
            return []
        return [self._position(self._lower(events.c.body), wanted.text) > 0]

    def _columns(self, events: FromClause) -> list[ColumnElement[Any]]:
        return [events.c[name] for name in self.columns]

    @staticmethod
    def _bounds(source: FromClause, wanted: Selection) -> list[ColumnElement[bool]]:
        """Bounds on the event_id, bare, so that they prune partitions and start an index scan."""
        event_id = source.c.event_id
        found: list[ColumnElement[bool]] = []
        if wanted.since_id is not None:
            found.append(event_id >= wanted.since_id)
        if wanted.until_id is not None:
            found.append(event_id < wanted.until_id)
        if wanted.after is not None:
            strictly, loosely = (lt, le) if wanted.order == "newest" else (gt, ge)
            found += _beside(source, wanted, wanted.after, strictly, loosely)
        if wanted.upto is not None:
            loosely = ge if wanted.order == "newest" else le
            found += _beside(source, wanted, wanted.upto, loosely, loosely)
        return found


def _beside(
    source: FromClause,
    wanted: Selection,
    place: Place,
    compare: Callable[[Any, Any], Any],
    loosely: Callable[[Any, Any], Any],
) -> list[ColumnElement[bool]]:
    """What lies on one side of a place; `loosely` is the comparison that admits what is equal."""
    event_id, tenant_id = place
    if wanted.tenant_id is not None:
        return [compare(source.c.event_id, event_id)]
    of_tenant = or_(source.c.event_id != event_id, compare(source.c.tenant_id, tenant_id))
    return [loosely(source.c.event_id, event_id), of_tenant]


def every_event() -> Clause:
    """The clause that every event satisfies."""
    return Clause("*", (EVERY_EVENT,))
