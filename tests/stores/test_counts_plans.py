"""Counts are read by key: held by EXPLAIN, so that they cost the same in a large log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from muniment.stores import open_store
from muniment.stores.counts import DAY, HOUR
from muniment.stores.postgres import counts as postgres_counts
from muniment.stores.postgres.page import paging
from muniment.stores.sqlite import counts as sqlite_counts
from tests.servers.postgres import Postgres
from tests.stores.secured import Secured, secured


async def test_sqlite_reads_cells_and_uncounted_events_by_key(sqlite_url: str) -> None:
    """Neither table is read whole, nor a tenant's events."""
    store = open_store(sqlite_url)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(Path(sqlite_url.removeprefix("sqlite:///")))) as connection:
        cells = connection.execute(
            f"EXPLAIN QUERY PLAN {sqlite_counts._CELLS}",
            {"origin": 0, "bar": HOUR, "owner": "acme", "width": HOUR, "since": 0, "until": DAY},
        ).fetchall()
        where = {"start": 1, "tenant": "acme", "lowest": b"", "highest": b""}
        behind, far_behind = (
            connection.execute(f"EXPLAIN QUERY PLAN {sql}", where).fetchall()
            for sql in (sqlite_counts._UNCOUNTED, sqlite_counts._MUCH_UNCOUNTED)
        )
    assert cells[0][3] == (
        "SEARCH muniment_cells USING PRIMARY KEY (tenant_id=? AND width=? AND start>? AND start<?)"
    )
    assert [step[3] for step in behind] == [
        "SEARCH muniment_events USING INTEGER PRIMARY KEY (rowid>?)"
    ]
    assert [step[3] for step in far_behind] == [
        (
            "SEARCH muniment_events USING INDEX muniment_events_by_id "
            "(tenant_id=? AND event_id>? AND event_id<?)"
        )
    ]


async def test_sqlite_goes_from_tenant_to_tenant_by_key(sqlite_url: str) -> None:
    """Of each, the cells that are asked for are read and no others."""
    store = open_store(sqlite_url)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(Path(sqlite_url.removeprefix("sqlite:///")))) as connection:
        steps = connection.execute(
            f"EXPLAIN QUERY PLAN {sqlite_counts._BY_TENANT}",
            {"width": HOUR, "since": 0, "until": DAY},
        ).fetchall()
    read = [step[3] for step in steps if "muniment_cells" in step[3]]
    assert read == [
        "SEARCH muniment_cells USING PRIMARY KEY (tenant_id>?)",
        "SEARCH muniment_cells USING PRIMARY KEY (tenant_id>?)",
        "SEARCH muniment_cells USING PRIMARY KEY (tenant_id=? AND width=? AND start>? AND start<?)",
    ]


@pytest.fixture(scope="module")
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database with readers whom row security binds."""
    with secured(postgres_server) as place:
        yield place


@pytest.mark.parametrize("tenant_id", ["acme", None])
@pytest.mark.parametrize("who", ["acme_reader", "all_reader"])
async def test_postgres_reads_cells_and_uncounted_events_by_index(
    place: Secured, who: str, tenant_id: str | None
) -> None:
    """Under row security too."""
    connection = await asyncpg.connect(place.url(getattr(place, who)))
    async with paging(connection):
        rows = await connection.fetch(
            f"EXPLAIN (COSTS OFF) {postgres_counts._CELLS}",
            *(tenant_id, HOUR, 0, HOUR, 0, DAY),
            *map(postgres_counts._lowest, (0, DAY)),
        )
    await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on cells" not in plan
    assert "Seq Scan on events" not in plan
    assert "Index Cond: ((tenant_id = ANY ($" in plan
    assert "Index Cond: (ROW(epoch, xid) >= ROW($" in plan


@pytest.mark.parametrize("who", ["acme_reader", "all_reader"])
async def test_postgres_goes_from_tenant_to_tenant_by_index(place: Secured, who: str) -> None:
    """Under row security too."""
    connection = await asyncpg.connect(place.url(getattr(place, who)))
    async with paging(connection):
        rows = await connection.fetch(
            f"EXPLAIN (COSTS OFF) {postgres_counts._BY_TENANT}",
            *(HOUR, 0, DAY),
            *map(postgres_counts._lowest, (0, DAY)),
        )
    await connection.close()
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on cells" not in plan
    assert "Seq Scan on events" not in plan
    assert "Index Cond: ((tenant_id = " in plan
    assert "Index Cond: (ROW(epoch, xid) >= ROW($" in plan
