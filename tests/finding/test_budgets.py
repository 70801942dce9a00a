"""Searches with a budget, against both stores: they end early, and go on where they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import Actor, AuditLog, Event, Outcome, searching
from muniment.actions import standard_catalogue
from muniment.errors import InvalidQuery
from muniment.event_id import make_event_id
from muniment.query import Page
from muniment.sealing import Sealer
from muniment.searching import Searcher, Stride
from muniment.stores import open_store
from muniment.stores.base import Store

_NOON = datetime(2026, 3, 31, 23, 59, 30, tzinfo=UTC)  # a month, and so a partition, ends here
_TENANTS = ("acme", "globex", "株式会社")
_ACTIONS = ("login", "login_failed", "role_assign", "role_revoke", "tick")
_COUNT = 60


def _event(n: int) -> Event:
    # Every third event has the id of the one before it, in another tenant.
    second = n - (n % 3 == 2)
    moment = _NOON + timedelta(seconds=second)
    return Event(
        action=_ACTIONS[n * 7 % 11 % 5],
        tenant_id=_TENANTS[n % 3],
        occurred_at=moment,
        event_id=make_event_id(moment, second.to_bytes(8, "big")),
        actor=Actor.user(f"u{n % 4}") if n % 5 else Actor.system(),
        outcome=Outcome.DENIED if n % 6 == 0 else Outcome.SUCCESS,
        details={"note": "needle" if n % 17 == 0 else "hay"},
    )


_EVENTS = [_event(n) for n in range(_COUNT)]
_FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": st.sampled_from([*_TENANTS, "nobody"]),
        "action": st.sampled_from(["login", "log*", "*", "nothing*"])
        | st.lists(st.sampled_from(_ACTIONS), min_size=1, max_size=3),
        "category": st.sampled_from(["authentication", "background"]),
        "actor_id": st.sampled_from(["u1", "nobody"]),
        "outcome": st.sampled_from(["denied", "success"]),
        "text": st.sampled_from(["needle", "HAY", "nosuchword"]),
        "since": st.integers(0, _COUNT).map(lambda s: _NOON + timedelta(seconds=s)),
        "until": st.integers(0, _COUNT).map(lambda s: _NOON + timedelta(seconds=s)),
    },
)
_TICKS = st.lists(st.sampled_from([0.0, 0.001, 0.02, 0.3, 5.0]), min_size=1, max_size=5)


class _Place:
    """An open store with the events, two thirds of them indexed, and the loop that it runs in."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.store = open_store(url)
        runner.run(self._fill())

    async def _fill(self) -> None:
        await self.store.upgrade()
        await self.store.open()
        sealer = Sealer(clock=lambda: _NOON + timedelta(days=1))
        sealed = [sealer.seal(event) for event in _EVENTS]
        await self.store.append([each for n, each in enumerate(sealed) if n % 9 < 6])
        while await self.store.index_pending(1000):
            pass
        await self.store.append([each for n, each in enumerate(sealed) if n % 9 >= 6])

    def pages(self, *, ticks: Sequence[float], filters: dict[str, Any], **asked: Any) -> list[Page]:
        """All pages of a search; by its clock each look takes the next of `ticks`, in turn."""
        searcher = _searcher(self.store, ticks)

        async def follow() -> list[Page]:
            found = [await searcher.search(filters, cursor=None, **asked)]
            while (cursor := found[-1].next_cursor) is not None:
                assert len(found) < 4 * _COUNT, "it does not come to an end"
                found.append(await searcher.search(filters, cursor=cursor, **asked))
            return found

        return self.runner.run(follow())


def _searcher(store: Store, ticks: Sequence[float]) -> Searcher:
    return Searcher(
        store,
        standard_catalogue(),
        tenant_id=None,
        clock=lambda: _NOON + timedelta(days=1),
        monotonic=_clock(ticks),
    )


def _clock(ticks: Sequence[float]) -> Callable[[], float]:
    """A clock that goes on by the next of `ticks` whenever it is read."""
    coming, now = cycle(ticks), 0.0

    def read() -> float:
        nonlocal now
        now += next(coming)
        return now

    return read


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Place]:
    """A place of each kind."""
    with asyncio.Runner() as runner:
        if request.param == "sqlite":
            place = _Place(f"sqlite:///{tmp_path_factory.mktemp('budgets') / 'audit.db'}", runner)
            yield place
            runner.run(place.store.close())
        else:
            server = request.getfixturevalue("postgres_server")
            database = server.create_database(request.getfixturevalue("postgres_template"))
            place = _Place(server.url(database), runner)
            yield place
            runner.run(place.store.close())
            server.drop_database(database)


@settings(max_examples=40)
@given(
    filters=_FILTERS,
    order=st.sampled_from(["newest", "oldest"]),
    limit=st.sampled_from([3, 50]),
    ticks=_TICKS,
    first=st.sampled_from([2, 9]),
)
def test_a_budget_changes_pages_and_never_what_is_found(
    place: _Place, *, filters: dict[str, Any], order: Any, limit: int, ticks: Any, first: int
) -> None:
    """However early its pages end, a search finds each event once, in order, to the last.

    A page that isn't full says how far it looked: what it found lies before that, what the next one
    finds does not.
    """
    (whole,) = place.pages(ticks=[0.0], filters=filters, order=order, limit=_COUNT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "_LOOKED_AT_FIRST", first)
        pages = place.pages(ticks=ticks, filters=filters, order=order, limit=limit, budget=0.1)
    assert [event for page in pages for event in page.events] == whole.events
    sign = -1 if order == "newest" else 1
    for page, following in pairwise(pages):
        assert page.next_cursor != following.next_cursor
        assert (page.searched_to is None) == (len(page.events) == limit)
        if page.searched_to is not None:
            to = sign * page.searched_to.timestamp()
            assert all(sign * event.occurred_at.timestamp() <= to for event in page.events)
            assert all(sign * event.occurred_at.timestamp() >= to for event in following.events)
    assert pages[-1].searched_to is None


async def test_a_spent_budget_ends_the_page_where_it_came_to(
    log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may be empty; its cursor leads on, until what is far back is found."""
    monkeypatch.setattr(searching, "_LOOKED_AT_FIRST", 10)
    async with AuditLog.open(log_url) as log:
        await log.record_many(
            [
                Event(
                    action="tick",
                    tenant_id="acme",
                    occurred_at=_NOON + timedelta(seconds=n),
                    details={"note": "needle" if n == 0 else "hay"},
                )
                for n in range(25)
            ]
        )
        cursor, ends, counts = None, [], []
        while True:
            page = await log.search(tenant_id="acme", text="needle", budget=0, cursor=cursor)
            ends.append(page.searched_to)
            counts.append(len(page.events))
            if (cursor := page.next_cursor) is None:
                break
    assert (ends, counts) == (
        [_NOON + timedelta(seconds=15), _NOON + timedelta(seconds=5), None],
        [0, 0, 1],
    )


async def test_where_every_candidate_is_found_nothing_is_measured_first(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page without text and with one condition at most goes by its limit, budget or not."""

    async def never(*_: Any) -> None:
        raise AssertionError

    async with AuditLog.open(sqlite_url) as log:
        await log.record_many([Event(action="login") for _ in range(3)])
        monkeypatch.setattr(log.store, "reach", never)
        for asked in ({}, {"tenant_id": "system"}, {"action": ["login", "logout"]}):
            page = await log.search(**asked, limit=2, budget=0)
            assert (len(page.events), page.searched_to) == (2, None)


@pytest.mark.parametrize("budget", [-1, float("nan"), "1", True])
async def test_a_bad_budget_is_named(sqlite_url: str, budget: Any) -> None:
    """A budget is a number of seconds, 0 or more."""
    async with AuditLog.open(sqlite_url) as log:
        with pytest.raises(InvalidQuery, match="budget: "):
            await log.search(budget=budget)


def test_looks_grow_while_time_is_left_and_shrink_before_it_ends() -> None:
    """How many are looked at goes by what the last ones took, at most four times as many."""
    stride = Stride(1.0, _clock([0.0, 0.001, 0.4, 0.4]))
    first = stride.candidates
    assert not stride.is_spent()
    assert stride.candidates == 4 * first
    assert not stride.is_spent()
    assert stride.candidates == int(4 * first * (1 - 0.401) / 0.8)
    assert not stride.is_spent()
    assert stride.candidates < 2 * first
