"""`muniment db recount`: counts are thrown away and made again."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from muniment import Actor, AuditLog, Event
from muniment.stores import open_store
from muniment.stores.counts import DAY, HOUR, Bars, Cell
from muniment.testing.counts_contract import count_all
from tests.cli.running import muniment, record

_NOW = datetime.now(UTC)


def _events(count: int) -> list[Event]:
    return [
        Event(
            action=("login", "tick")[n % 2],
            tenant_id=("acme", "globex")[n % 3 % 2],
            actor=Actor.user("u1"),
            occurred_at=_NOW - timedelta(hours=5 * n),
        )
        for n in range(count)
    ]


async def _prepare(url: str) -> None:
    """Two logs after each other, which count what they record as far as they come to it."""
    store = open_store(url)
    await store.upgrade()
    await store.close()
    for events in (_events(70), _events(30)):
        async with AuditLog.open(url) as log:
            await log.record_many(events)


async def _cells(url: str) -> list[list[Cell]]:
    store = open_store(url)
    await store.open()
    await count_all(store)
    found = []
    for tenant_id in ("acme", "globex", None):
        for width in (HOUR, DAY):
            until = int(_NOW.timestamp() * 1000) // DAY * DAY + DAY
            since = until - 30 * DAY
            cells = await store.counts.cells(tenant_id, since, until, width, Bars(since, width))
            found.append(sorted(cells, key=lambda cell: (cell.start, cell.action)))
    await store.close()
    return found


def test_recounted_is_as_counted(store_url: str) -> None:
    """The counts made step by step, by several logs, are those made anew."""
    asyncio.run(_prepare(store_url))
    before = asyncio.run(_cells(store_url))
    done = muniment("db", "recount", url=store_url)
    assert (done.exit_code, done.stdout) == (0, "counted 100 events\n")
    assert asyncio.run(_cells(store_url)) == before
    assert sum(cell.events for cell in before[-1]) == 100


def test_recounting_puts_right_what_is_wrong(sqlite_url: str) -> None:
    """Counts are made from the events, whatever became of them."""
    record(sqlite_url, _events(10))
    before = asyncio.run(_cells(sqlite_url))

    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE muniment_cells SET events = events + start % 7 + 1")
        connection.execute("DELETE FROM muniment_cells WHERE tenant_id = 'globex'")
        connection.commit()
    assert asyncio.run(_cells(sqlite_url)) != before
    assert muniment("db", "recount", url=sqlite_url).stdout == "counted 10 events\n"
    assert asyncio.run(_cells(sqlite_url)) == before


@pytest.mark.parametrize("url", ["sqlite:///nowhere.db", "postgresql://nobody@127.0.0.1:1/none"])
def test_nothing_is_made_where_nothing_is(url: str) -> None:
    """A store that isn't there is one line, and stays away."""
    done = muniment("db", "recount", url=url)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
