"""What was counted so far, and the bars and facets that it comes to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

from muniment.actions import Catalogue, activity_of
from muniment.canonical import decode
from muniment.counting.counted import Bar, Facet, FacetValue
from muniment.counting.ranges import Range
from muniment.event import Event
from muniment.event_id import event_id_of, moment_of
from muniment.stores.base import Store
from muniment.stores.counts import Facts

_TOP: Final = 10
_MOST_VALUES: Final = 200


class Stretch(NamedTuple):
    """A part of the range to be counted event by event, and what for besides actor and target."""

    since: int
    until: int
    totals: bool
    bars: bool


class Tally:
    """What was counted so far."""

    def __init__(self, span: Range) -> None:
        self.span = span
        self.kinds: Counter[tuple[str, str]] = Counter()  # action, outcome
        self.beside: Counter[tuple[str, str]] = Counter()  # what another activity would add
        self.tenants: Counter[str] = Counter()
        self.bars: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.actors: Counter[tuple[str, str]] = Counter()  # type, id
        self.targets: Counter[str] = Counter()
        self.newest: dict[tuple[str, ...], Facts] = {}

    def add_to_bar(self, moment: int, outcome: str, events: int) -> None:
        """Count events at `moment`, in milliseconds."""
        self.bars[(moment - self.span.start) // self.span.width][outcome] += events

    def add(self, found: Facts, stretch: Stretch) -> None:
        """Count one event."""
        action, outcome, actor, kind = found.first()
        if stretch.totals:
            self.kinds[action, outcome] += 1
            self.tenants[found.tenant_id] += 1
        if stretch.bars:
            self.add_to_bar(found.milliseconds, outcome, 1)
        self._see(("actor", kind, actor), found)
        self.actors[kind, actor] += 1
        if "\x1ftarget:" in found.terms:
            for target in set(found.values("target")):
                self._see(("target", target), found)
                self.targets[target] += 1

    def _see(self, key: tuple[str, ...], found: Facts) -> None:
        seen = self.newest.get(key)
        if seen is None or seen.event_id < found.event_id:
            self.newest[key] = found


def bars_of(tally: Tally) -> list[Bar]:
    """Every bar of the range, the oldest first."""
    span = tally.span
    return [
        Bar(
            start=moment_of(start * 1000),
            outcomes=dict(sorted(tally.bars[n].items())) if n in tally.bars else {},
        )
        for n, start in enumerate(range(span.start, span.end, span.width))
    ]


async def events_of(store: Store, wanted: Iterable[Facts]) -> dict[Facts, Event]:
    """The events of those facts, without those that are erased."""
    by_tenant: defaultdict[str, dict[str, Facts]] = defaultdict(dict)
    for found in wanted:
        by_tenant[found.tenant_id][event_id_of(found.event_id)] = found
    events = {}
    for tenant_id, by_id in by_tenant.items():
        for stored in await store.get_many(list(by_id), tenant_id):
            if stored.body is not None:
                events[by_id[stored.event_id]] = decode(stored.body)
    return events


def facets_of_kinds(tally: Tally, catalogue: Catalogue, *, exact: bool) -> dict[str, Facet]:
    """What actions and outcomes come to."""
    found: dict[str, Counter[str]] = {name: Counter() for name in ("action", "category", "outcome")}
    for (action, outcome), events in tally.kinds.items():
        found["action"][action] += events
        found["category"][catalogue.category_of(action).value] += events
        found["outcome"][outcome] += events
    return {name: facet_of(counts, exact=exact) for name, counts in found.items()}


def facet_of_activities(tally: Tally, catalogue: Catalogue, *, exact: bool) -> Facet:
    """What each activity comes to, whichever of them is asked for."""
    found: Counter[str] = Counter()
    for (action, _), events in (tally.kinds + tally.beside).items():
        found[activity_of(catalogue.category_of(action))] += events
    return facet_of(found, exact=exact)


def facet_of(counts: Counter[str], *, exact: bool) -> Facet:
    """The most frequent values."""
    return Facet(
        values=[
            FacetValue(value=value, events=events) for value, events in _most(counts, _MOST_VALUES)
        ],
        exact=exact,
    )


async def facets_of_names(tally: Tally, store: Store, *, exact: bool) -> dict[str, Facet]:
    """The most frequent actors and targets, with their names."""
    actors, targets = _most(tally.actors, _TOP), _most(tally.targets, _TOP)
    newest = tally.newest
    keys = [*(("actor", *key) for key, _ in actors), *(("target", key) for key, _ in targets)]
    events = await events_of(store, {newest[key] for key in keys})

    def actor(kind: str, actor_id: str, count: int) -> FacetValue:
        event = events.get(newest["actor", kind, actor_id])
        name = None if event is None else event.actor.name
        return FacetValue(value=f"{kind}:{actor_id}", events=count, type=kind, name=name)

    def target(target_id: str, count: int) -> FacetValue:
        event = events.get(newest["target", target_id])
        told = [] if event is None else [t for t in event.targets if t.id == target_id]
        return FacetValue(
            value=target_id,
            events=count,
            type=told[0].type if told else None,
            name=told[0].name if told else None,
        )

    return {
        "actor": Facet(values=[actor(*key, count) for key, count in actors], exact=exact),
        "target": Facet(values=[target(key, count) for key, count in targets], exact=exact),
    }


_Key = TypeVar("_Key", str, tuple[str, str])


def _most(counts: Counter[_Key], limit: int) -> list[tuple[_Key, int]]:
    """The most frequent, those that are equally so in their own order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
