"""Counting, against both stores, held against a plain counting of every event."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import Actor, AuditLog, Context, Event, Outcome, Target
from muniment.actions import Category, activity_of, standard_catalogue
from muniment.canonical import encode
from muniment.counting import Counted, count
from muniment.errors import InvalidQuery
from muniment.query import make_filter
from muniment.sealing import Sealer
from muniment.searching import Searcher
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.testing.counts_contract import count_all
from tests.scripted import LONG
from tests.servers.postgres import Postgres

_NOW = datetime(2026, 4, 1, 0, 30, 15, 123456, UTC)  # a Wednesday, half an hour into a month
_TENANTS = ("acme", "globex", "株式会社")
_ACTIONS = ("login", "login_failed", "role_assign", "group:create", "tick", "audit.view")
_IDS = ("u1", "u2", "U1", "u%", "ünï", 'quo"te')
_SPANS = (60, 3600, 86_400, 10 * 86_400)
"""In seconds: some events of the last minute, hour, day, and ten days."""
_CATALOGUE = standard_catalogue()


def _event(n: int, random: Random) -> Event:
    user, agent = random.choice(_IDS), random.choice(_IDS)
    return Event(
        action=random.choice(_ACTIONS),
        tenant_id=random.choice(_TENANTS),
        occurred_at=_NOW - timedelta(microseconds=random.randrange(_SPANS[n % 4] * 1_000_000)),
        actor=random.choice(
            [
                Actor.user(user, name=f"Name of {user}"),
                Actor.agent(agent, on_behalf_of=Actor.user(user)),
                Actor.service(user),
            ]
        ),
        targets=tuple(
            Target(random.choice(["user", "role"]), random.choice(_IDS), name="Named")
            for _ in range(random.randrange(4))
        ),
        outcome=random.choice(list(Outcome)),
        context=Context(request_id=random.choice([None, "q1"])),
        details={"note": f"Note {n % 9}"},
    )


_RANDOM = Random(11)  # noqa: S311 - the same events every time
_EVENTS = [_event(n, _RANDOM) for n in range(400)]
_BY_CELLS: dict[str, st.SearchStrategy[Any]] = {
    "tenant_id": st.sampled_from([*_TENANTS, "nobody"]),
    "action": st.sampled_from([*_ACTIONS, "role_*", "log*", "nothing*"])
    | st.lists(st.sampled_from([*_ACTIONS, "role_*"]), min_size=1, max_size=3),
    "category": st.sampled_from(Category),
    "activity": st.lists(
        st.sampled_from(["people", "background", "reading"]), min_size=1, max_size=3
    ),
    "outcome": st.lists(st.sampled_from(Outcome), min_size=1, max_size=3),
}
_BY_EVENTS: dict[str, st.SearchStrategy[Any]] = {
    "actor_type": st.sampled_from(["user", "agent"]),
    "actor_id": st.sampled_from([*_IDS, "nobody"]),
    "user_id": st.sampled_from(_IDS),
    "target_type": st.sampled_from(["user", "role"]),
    "target_id": st.sampled_from(_IDS),
    "request_id": st.just("q1"),
    "text": st.sampled_from(["NOTE 7", "quo", "zoë"]),
}
_AGES = (
    st.integers(0, 12 * 86_400_000).map(lambda ms: timedelta(milliseconds=ms))
    | st.integers(0, 300).map(lambda hours: timedelta(hours=hours, minutes=30, seconds=15))
    | st.integers(0, 80_000).map(lambda ms: timedelta(milliseconds=ms))
)
_MILLISECOND = _NOW.replace(microsecond=123_000)
_TIMES = {"since": _AGES.map(lambda age: _MILLISECOND - age)} | {
    "until": _AGES.map(lambda age: _MILLISECOND - age)
}
_FILTERS = st.fixed_dictionaries({}, optional=_BY_CELLS | _TIMES) | st.fixed_dictionaries(
    {}, optional=_BY_CELLS | _BY_EVENTS | _TIMES
)


class _Place:
    """A store with the events, some of them indexed, some counted, and the loop that it runs in."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self.store = open_store(url)
        self.runner = runner
        runner.run(self._fill(self.store))

    @staticmethod
    async def _fill(store: Store) -> None:
        await store.upgrade()
        await store.open()
        sealer = Sealer(clock=lambda: _NOW)
        sealed = [sealer.seal(event) for event in _EVENTS]
        await store.append(sealed[:150])
        await count_all(store, at_once=100)
        await store.append(sealed[150:300])
        while await store.index_pending(1000):
            pass
        await store.append(sealed[300:])

    def count(
        self,
        given: dict[str, Any],
        *,
        bars: int = 60,
        budget: float = 100.0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> Counted:
        """What counting tells, at `_NOW`."""
        searcher = Searcher(self.store, _CATALOGUE, tenant_id=None, clock=lambda: _NOW)
        return self.runner.run(
            count(
                self.store,
                _CATALOGUE,
                searcher.filter(given),
                now=_NOW,
                select=searcher.selection,
                bars=bars,
                budget=budget,
                clock=clock,
            )
        )


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Place]:
    """A place of each kind."""
    with asyncio.Runner() as runner:
        if request.param == "sqlite":
            file: Path = tmp_path_factory.mktemp("counting") / "audit.db"
            place = _Place(f"sqlite:///{file}", runner)
            yield place
            runner.run(place.store.close())
        else:
            server: Postgres = request.getfixturevalue("postgres_server")
            database = server.create_database()
            place = _Place(server.url(database), runner)
            yield place
            runner.run(place.store.close())
            server.drop_database(database)


def _chosen(given: dict[str, Any], counted: Counted) -> list[Event]:
    """The events that the filter asks for, of the range that was counted."""
    wanted = make_filter(now=_NOW, given={"since": counted.since, "until": counted.until} | given)
    category_of = _CATALOGUE.category_of
    return [e for e in _EVENTS if wanted.matches(e, encode(e).decode(), category_of)]


def _by_hand(
    chosen: list[Event], counted: Counted, given: dict[str, Any]
) -> tuple[list[Counter[str]], dict[str, Any]]:
    bars: list[Counter[str]] = [Counter() for _ in counted.bars]
    facets: dict[str, Counter[str]] = {name: Counter() for name in counted.facets}
    for event in chosen:
        offset = (event.occurred_at - counted.since) // timedelta(seconds=counted.width)
        bars[offset][event.outcome.value] += 1
        category = _CATALOGUE.category_of(event.action)
        facets["action"][event.action] += 1
        facets["category"][category.value] += 1
        if "tenant_id" not in given:
            facets["tenant"][event.tenant_id] += 1
        facets["outcome"][event.outcome.value] += 1
        facets["actor"][f"{event.actor.type}:{event.actor.id}"] += 1
        facets["target"].update({target.id for target in event.targets})
    for event in _chosen({**given, "activity": None}, counted):
        facets["activity"][activity_of(_CATALOGUE.category_of(event.action))] += 1
    return bars, facets


@settings(max_examples=150)
@given(given=_FILTERS, bars=st.sampled_from([1, 7, 60, 200]))
def test_with_time_enough_everything_is_counted(
    place: _Place, given: dict[str, Any], bars: int
) -> None:
    """Any filter, in any range, over any bars: total, bars and facets are those of the events."""
    if given.get("since", _NOW - timedelta(days=20)) >= given.get("until", _NOW):
        with pytest.raises(InvalidQuery, match="since"):
            place.count(given, bars=bars)
        return
    counted = place.count(given, bars=bars)
    chosen = _chosen(given, counted)
    bars_by_hand, facets = _by_hand(chosen, counted, given)
    assert (counted.events, counted.exact) == (len(chosen), True)
    assert [bar.outcomes for bar in counted.bars] == bars_by_hand
    for name, facet in counted.facets.items():
        assert facet.exact
        found = {value.value: value.events for value in facet.values}
        in_order = sorted(found.items(), key=lambda item: -item[1])
        assert list(found.items()) == in_order
        if name in {"actor", "target"}:
            assert sorted(found.values()) == sorted(facets[name].values())[-10:]
        assert found.items() <= facets[name].items()
        assert len(found) == min(len(facets[name]), 10 if name in {"actor", "target"} else 99)


@settings(max_examples=80)
@given(given=_FILTERS, steps=st.sampled_from([0, 1, 2, 4]))
def test_without_time_there_are_at_least_so_many(
    place: _Place, given: dict[str, Any], steps: int
) -> None:
    """Cut short, no number is too large, and what is called exact is."""
    if given.get("since", _NOW - timedelta(days=20)) >= given.get("until", _NOW):
        return
    ticks = iter(range(1000))
    counted = place.count(given, budget=float(steps), clock=lambda: float(next(ticks)))
    chosen = _chosen(given, counted)
    bars_by_hand, facets = _by_hand(chosen, counted, given)
    assert counted.events <= len(chosen)
    assert not counted.exact or counted.events == len(chosen)
    for bar, by_hand in zip(counted.bars, bars_by_hand, strict=True):
        assert Counter(bar.outcomes) <= by_hand
        assert not counted.exact or bar.outcomes == by_hand
    for name, facet in counted.facets.items():
        for value in facet.values:
            assert value.events <= facets[name][value.value]
            assert not facet.exact or value.events == facets[name][value.value]


def test_cells_need_no_time(place: _Place) -> None:
    """By default, the last 7 days are exact without looking at an event."""
    for asked in ({}, {"tenant_id": "acme"}, {"action": "log*", "outcome": "denied"}):
        counted = place.count(asked, budget=0)
        assert (counted.events, counted.exact) == (len(_chosen(asked, counted)), True)
        assert counted.facets["action"].exact
        assert not counted.facets["actor"].exact
        assert counted.facets["actor"].values == []


def test_actors_and_targets_have_names(place: _Place) -> None:
    """What the newest event says of them."""
    newest = max(
        (e for e in _EVENTS if e.targets and e.actor.name), key=lambda event: event.event_id
    )
    counted = place.count({"actor_id": newest.actor.id, "actor_type": "user"})
    (actor,) = counted.facets["actor"].values
    assert (actor.type, actor.name) == ("user", f"Name of {newest.actor.id}")
    assert {value.name for value in counted.facets["target"].values} == {"Named"}
    assert {value.type for value in counted.facets["target"].values} == {"user", "role"}


@pytest.mark.parametrize(
    ("since", "bars", "width"),
    [
        ("1m", 60, 1),
        ("1h", 60, 60),
        ("24h", 60, 1800),
        ("7d", 60, 3 * 3600),
        ("30d", 60, 12 * 3600),
        ("90d", 60, 86_400),
        ("52w", 60, 7 * 86_400),
        ("7d", 7, 86_400),
        ("1999-01-01", 1, 52 * 7 * 86_400),
    ],
)
def test_bars_have_round_widths(place: _Place, since: str, bars: int, width: int) -> None:
    """About as many as asked for, each of a width that people count in."""
    counted = place.count({"since": since}, bars=bars)
    assert counted.width == width or since.startswith("1999")
    assert counted.width % width == 0
    assert len(counted.bars) * counted.width == (counted.until - counted.since).total_seconds()
    assert bars / 2 <= len(counted.bars) <= bars * 2.7 + 1


def test_bars_may_reach_the_end_of_time(place: _Place) -> None:
    """Whatever is asked for: the last bar may end when no datetime can say."""
    counted = place.count({"since": "1970-01-01", "until": "9999-12-31T23:59:59.999999Z"})
    assert counted.until.year == 9999
    assert counted.bars[0].start.strftime("%a %H:%M") == "Mon 00:00"
    assert counted.events == place.count({"since": "1970-01-01"}).events


def test_weeks_begin_on_monday(place: _Place) -> None:
    """As people in most places have it."""
    counted = place.count({"since": "52w"})
    assert {bar.start.strftime("%a %H:%M") for bar in counted.bars} == {"Mon 00:00"}


def test_bars_are_widened_to_what_can_be_counted(place: _Place) -> None:
    """Rather than a part of the minutes, all of the hours are shown."""
    counted = place.count({"since": "24h"}, budget=0)
    assert counted.width == 3600
    inside = [bar for bar in counted.bars if bar.start >= _NOW - timedelta(hours=24)]
    assert sum(sum(bar.outcomes.values()) for bar in inside) == counted.events


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"bars": 0}, "bars"),
        ({"bars": 10_000}, "bars"),
        ({"bars": True}, "bars"),
        ({"budget": -1}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"budget": "1"}, "budget"),
        ({"since": "1d", "until": "2d"}, "since"),
        ({"since": "2999-01-01"}, "since"),
        ({"until": "1960-01-01"}, "since"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_arguments_are_named(sqlite_url: str, given: dict[str, Any], field: str) -> None:
    """Whatever is wrong, it is an `InvalidQuery` that says which argument."""
    async with AuditLog.open(sqlite_url) as log:
        with pytest.raises(InvalidQuery) as caught:
            await log.count(**given)
    assert caught.value.field == field


async def test_a_bound_log_counts_its_tenant(log_url: str) -> None:
    """And is refused another one."""
    async with AuditLog.open(log_url) as log:
        for tenant_id in ("acme", "globex", "globex"):
            await log.record("login", tenant_id=tenant_id)
        assert (await log.count()).events == 3
    async with AuditLog.open(log_url, tenant_id="acme") as log:
        assert (await log.count()).events == 1
        with pytest.raises(InvalidQuery, match="tenant_id"):
            await log.count(tenant_id="globex")


async def test_counts_follow_by_themselves(log_url: str) -> None:
    """An open log counts what it recorded, and what others did before it."""
    store = open_store(log_url)
    await store.upgrade()
    sealer = Sealer()
    await store.append([sealer.seal(Event(action="login")) for _ in range(20)])
    async with AuditLog.open(log_url) as log, asyncio.timeout(LONG):
        await log.record("logout", tenant_id="the last")
        while "the last" not in await store.counts.tenants(9):  # noqa: ASYNC110 - of the log
            await asyncio.sleep(0.01)
    assert await store.counts.count_pending(100) == 0
    await store.close()


def test_what_is_counted_is_json() -> None:
    """As the API gives it."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    empty = Counted(since=now, until=now, width=1, events=0, exact=True, bars=[], facets={})
    assert msgspec.json.decode(msgspec.json.encode(empty), type=Counted) == empty
