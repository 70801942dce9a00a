"""Searches, against both stores, held against a plain reading of every event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import Actor, AuditLog, Context, Event, Outcome, Target
from muniment.actions import Category, standard_catalogue
from muniment.canonical import encode
from muniment.errors import EventNotFound, InvalidQuery
from muniment.event_id import make_event_id
from muniment.merkle import leaf_hash
from muniment.query import MAX_ALTERNATIVES, make_filter
from muniment.stores import open_store
from tests.servers.postgres import Postgres

_NOON = datetime(2026, 3, 31, 23, 59, 50, tzinfo=UTC)  # a month, and so a partition, ends here
_TENANTS = ("acme", "globex", "株式会社", "a%")
_ACTIONS = (
    "login",
    "login_failed",
    "role_assign",
    "role_revoke",
    "group:create",
    "group:x",
    "tick",
)
_IDS = ("u1", "u2", "U1", "u_1", "u%", "ünï", 'quo"te', "u1 ")
_TEXTS = ("u1", "QUO\\", 'quo"te', "ZOË", "zoË", "%", "_", "🜁", "\\u", "note", "", "NOTE 7", "\n")


def _event(n: int, random: Random) -> Event:
    user, agent = random.choice(_IDS), random.choice(_IDS)
    actor = random.choice(
        [
            Actor.user(user),
            Actor.agent(agent),
            Actor.agent(agent, on_behalf_of=Actor.user(user)),
            Actor.service(user),
            Actor.system(),
        ]
    )
    return Event(
        action=random.choice(_ACTIONS),
        tenant_id=random.choice(_TENANTS),
        occurred_at=_NOON + timedelta(microseconds=random.randrange(20_000_000)),
        actor=actor,
        targets=tuple(
            Target(random.choice(["user", "role"]), random.choice(_IDS))
            for _ in range(random.randrange(3))
        ),
        outcome=random.choice(list(Outcome)),
        context=Context(
            request_id=random.choice([None, *_IDS]),
            session_id=random.choice([None, "s1"]),
            run_id=random.choice([None, "r1"]),
        ),
        details={"note": f"Note {n % 9} Zoë 🜁\n", "n": n},
    )


_RANDOM = Random(7)  # noqa: S311 - the same events every time
_EVENTS = [_event(n, _RANDOM) for n in range(240)]
_maybe_id = st.none() | st.sampled_from([*_IDS, "nobody"])
_FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": st.sampled_from([*_TENANTS, "nobody"]),
        "action": st.sampled_from([*_ACTIONS, "role_*", "group:*", "*", "log*", "nothing*"])
        | st.lists(st.sampled_from([*_ACTIONS, "role_*"]), min_size=1, max_size=3),
        "category": st.sampled_from(Category),
        "activity": st.lists(
            st.sampled_from(["people", "background", "reading"]), min_size=1, max_size=3
        ),
        "actor_type": st.sampled_from(["user", "agent", "service", "system"]),
        "actor_id": _maybe_id,
        "user_id": _maybe_id,
        "agent_id": _maybe_id,
        "target_type": st.sampled_from(["user", "role", "us"]),
        "target_id": _maybe_id,
        "outcome": st.sampled_from(Outcome)
        | st.lists(st.sampled_from(Outcome), min_size=1, max_size=3),
        "request_id": _maybe_id,
        "session_id": st.sampled_from(["s1", "s2"]),
        "run_id": st.sampled_from(["r1", "r2"]),
        "since": st.integers(0, 20_000).map(lambda ms: _NOON + timedelta(milliseconds=ms)),
        "until": st.integers(0, 20_000).map(lambda ms: _NOON + timedelta(milliseconds=ms)),
        "text": st.sampled_from([text for text in _TEXTS if text]),
    },
)


class _Place:
    """An open log, and the loop that it runs in."""

    def __init__(self, url: str, runner: asyncio.Runner, *, indexed: int) -> None:
        self.url = url
        self.runner = runner
        self.log = runner.run(self._open(indexed))

    async def _open(self, indexed: int) -> AuditLog:
        store = open_store(self.url)
        await store.upgrade()
        async with AuditLog.open(self.url) as log:
            await log.record_many(_EVENTS[:indexed])
        while await store.index_pending(1000):
            pass
        await store.close()
        log = await AuditLog.open(self.url)
        assert log._background is not None
        await log._background._indexer.close(catch_up=0)  # the rest stays unindexed
        await log.record_many(_EVENTS[indexed:])
        return log

    def search(self, **given: Any) -> list[str]:
        """The event_ids of all pages."""
        return self.runner.run(_pages(self.log, **given))


async def _pages(log: AuditLog, **given: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = await log.search(cursor=cursor, **given)
        found += [event.event_id for event in page.events]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Place]:
    """A log with the events, two thirds of them indexed."""
    with asyncio.Runner() as runner:
        if request.param == "sqlite":
            file: Path = tmp_path_factory.mktemp("search") / "audit.db"
            place = _Place(f"sqlite:///{file}", runner, indexed=160)
            yield place
            runner.run(place.log.close())
        else:
            server: Postgres = request.getfixturevalue("postgres_server")
            database = server.create_database()
            place = _Place(server.url(database), runner, indexed=160)
            yield place
            runner.run(place.log.close())
            server.drop_database(database)


def _expected(given: dict[str, Any], order: str) -> list[str]:
    wanted = make_filter(now=datetime.now(UTC), given=given)
    category_of = standard_catalogue().category_of
    chosen = [e for e in _EVENTS if wanted.matches(e, encode(e).decode(), category_of)]
    in_order = sorted(chosen, key=lambda e: (e.event_id, e.tenant_id), reverse=order == "newest")
    return [event.event_id for event in in_order]


@settings(max_examples=80)
@given(
    given=_FILTERS, order=st.sampled_from(["newest", "oldest"]), limit=st.sampled_from([7, 50, 500])
)
def test_a_search_finds_what_reading_every_event_would(
    place: _Place, given: dict[str, Any], order: str, limit: int
) -> None:
    """Any combination of filters, in any order, over any size of pages, indexed or not."""
    assert place.search(order=order, limit=limit, **given) == _expected(given, order)


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_cursors_neither_skip_nor_repeat_while_others_write(log_url: str, order: Any) -> None:
    """What was there when the first page was read comes once, whatever is recorded meanwhile."""
    async with AuditLog.open(log_url) as log, AuditLog.open(log_url) as other:
        start = datetime.now(UTC) - timedelta(hours=1)
        times = [start + timedelta(seconds=n) for n in range(60)]
        before = await log.record_many(
            [Event(action="login", tenant_id="acme", occurred_at=t) for t in times]
        )
        found: list[str] = []
        cursor = None
        for n in range(100):
            page = await log.search(
                tenant_id="acme", action="login", limit=7, order=order, cursor=cursor
            )
            found += [event.event_id for event in page.events]
            cursor = page.next_cursor
            if cursor is None:
                break
            await other.record_many(
                [
                    Event(action="login", tenant_id="acme", occurred_at=t + timedelta(seconds=0.5))
                    for t in times[n::9]
                ]
            )
    assert len(set(found)) == len(found)
    assert {receipt.event_id for receipt in before} <= set(found)
    assert all((a > b) == (order == "newest") for a, b in pairwise(found))


async def test_a_relative_time_holds_for_all_pages(sqlite_url: str) -> None:
    """`since="1h"` counts from the first page, however late the next is read."""
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    moment = now
    async with AuditLog.open(sqlite_url, clock=lambda: moment) as log:
        await log.record_many(
            [Event(action="tick", occurred_at=now - timedelta(minutes=n)) for n in range(10)]
        )
        first = await log.search(since="1h", limit=5)
        moment = now + timedelta(hours=2)
        second = await log.search(since="1h", limit=5, cursor=first.next_cursor)
    assert len(first.events) + len(second.events) == 10


async def test_an_outside_id_is_found_within_its_millisecond(sqlite_url: str) -> None:
    """An outside UUIDv7 is random below the millisecond; times of a search hold all the same."""
    moment = datetime(2026, 5, 1, 12, 0, 0, 123_400, tzinfo=UTC)
    outside = Event(
        action="login",
        event_id=make_event_id(moment, bytes(8))[:15] + "fff-8000-000000000000",
        occurred_at=moment,
    )
    async with AuditLog.open(sqlite_url) as log:
        await log.record(outside)
        within: dict[str, Any] = {"since": moment, "until": moment + timedelta(microseconds=100)}
        assert (await log.search(**within)).events == [await log.get(outside.event_id)]
        assert (await log.search(until=moment)).events == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"limit": 0}, "limit"),
        ({"limit": 10**6}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"order": "sideways"}, "order"),
        ({"outcome": "great"}, "outcome"),
        ({"outcome": []}, "outcome"),
        ({"action": "ro*le"}, "action"),
        ({"action": ""}, "action"),
        ({"action": ["login"] * (MAX_ALTERNATIVES + 1)}, "action"),
        ({"category": "sports"}, "category"),
        ({"activity": "sports"}, "activity"),
        ({"activity": ["people", "sports"]}, "activity"),
        ({"activity": [["people"]]}, "activity"),
        ({"actor_type": "robot"}, "actor_type"),
        ({"since": "yesterday"}, "since"),
        ({"until": datetime(2026, 1, 1)}, "until"),  # noqa: DTZ001 - it is what is refused
        ({"actor_id": "a\x00b"}, "actor_id"),
        ({"actor_id": "\ud800"}, "actor_id"),
        ({"tenant_id": 7}, "tenant_id"),
        ({"text": ""}, "text"),
        ({"text": "x" * 5000}, "text"),
        ({"cursor": "not a cursor"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
    ],
)
async def test_a_bad_argument_is_named(sqlite_url: str, given: Any, field: str) -> None:
    """A search that can't be answered says which argument is at fault."""
    async with AuditLog.open(sqlite_url) as log:
        with pytest.raises(InvalidQuery, match=rf"^{field}: ") as caught:
            await log.search(**given)
    assert caught.value.field == field


async def test_a_cursor_belongs_to_its_search(sqlite_url: str) -> None:
    """A cursor of another filter or order is refused, not misread."""
    async with AuditLog.open(sqlite_url) as log:
        await log.record_many([Event(action="login") for _ in range(3)])
        cursor = (await log.search(action="login", limit=1)).next_cursor
        with pytest.raises(InvalidQuery, match="another search"):
            await log.search(action="logout", limit=1, cursor=cursor)
        with pytest.raises(InvalidQuery, match="another search"):
            await log.search(action="login", limit=1, cursor=cursor, order="oldest")


async def test_a_bound_log_sees_its_tenant_only(sqlite_url: str) -> None:
    """Search, get, body and tail of a log with a `tenant_id` never leave it."""
    async with AuditLog.open(sqlite_url) as log:
        theirs = await log.record("login", tenant_id="globex")
        ours = await log.record("login", tenant_id="acme")
    async with AuditLog.open(sqlite_url, tenant_id="acme") as log:
        assert [e.event_id for e in (await log.search()).events] == [ours.event_id]
        with pytest.raises(EventNotFound):
            await log.get(theirs.event_id)
        with pytest.raises(EventNotFound):
            await log.body(theirs.event_id)
        with pytest.raises(InvalidQuery, match="bound to 'acme'"):
            await log.search(tenant_id="globex")
        with pytest.raises(InvalidQuery, match="bound to 'acme'"):
            await log.get(theirs.event_id, tenant_id="globex")
        with pytest.raises(EventNotFound):
            _ = [e async for e in log.tail(after=theirs.event_id, follow=False)]


@pytest.mark.parametrize("event_id", ["", "x", "019cec12", 7, "' OR 1=1 --", "\x00", None])
async def test_what_is_no_event_id_finds_nothing(sqlite_url: str, event_id: Any) -> None:
    """Anything that is no event_id is simply not found."""
    async with AuditLog.open(sqlite_url) as log:
        with pytest.raises(EventNotFound):
            await log.get(event_id)


async def test_body_is_what_was_hashed(log_url: str) -> None:
    """`body` gives the stored JSON; its hash is the receipt's."""
    async with AuditLog.open(log_url) as log:
        receipt = await log.record("login", tenant_id="acme", details={"π": 3.0})
        body = await log.body(receipt.event_id, tenant_id="acme")
    assert leaf_hash(body.encode()) == receipt.leaf_hash
