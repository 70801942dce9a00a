"""Searches go by index: held by EXPLAIN, so that a page costs the same in a large log."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import Select
from sqlalchemy.sql.functions import count
from sqlalchemy.sql.visitors import iterate

from muniment import Actor, AuditLog, Event, Target
from muniment.stores import open_store
from muniment.stores.postgres import page, store
from muniment.stores.sqlite.store import _DIALECT, SqliteStore
from tests.servers.postgres import Postgres

_SEARCHES: dict[str, dict[str, Any]] = {
    "newest of all": {},
    "oldest of all": {"order": "oldest"},
    "a tenant's": {"tenant_id": "t1"},
    "a tenant's, between times": {"tenant_id": "t1", "since": "30d", "until": "1d"},
    "an actor's": {"tenant_id": "t1", "actor_id": "u3"},
    "an actor's in all tenants": {"actor_id": "u3"},
    "an action and an outcome": {"tenant_id": "t1", "action": "login", "outcome": "denied"},
    "several actions": {"tenant_id": "t1", "action": ["login", "logout"]},
    "a prefix": {"action": "log*", "user_id": "u3"},
    "a category": {"category": "authentication"},
    "a target": {"tenant_id": "t1", "target_type": "user", "target_id": "u5"},
    "text of an actor's": {"tenant_id": "t1", "actor_id": "u3", "text": "needle"},
    "text within a budget": {"text": "needle", "budget": 0},
    "a tenant's text within a budget": {"tenant_id": "t1", "text": "needle", "budget": 0},
    "text of several actions within a budget": {
        "action": ["login", "logout"],
        "text": "needle",
        "budget": 0,
        "order": "oldest",
    },
    "two conditions within a budget": {"action": "login", "outcome": "denied", "budget": 0},
}


@pytest.fixture(scope="module")
def sqlite_place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a SQLite database with many events."""
    url = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'audit.db'}"
    asyncio.run(_fill(url))
    return url


@pytest.fixture(scope="module")
def postgres_place(postgres_server: Postgres) -> Iterator[str]:
    """The URL of a PostgreSQL database with many events."""
    name = postgres_server.create_database()
    asyncio.run(_fill(postgres_server.url(name)))
    done = postgres_server.psql("ANALYZE", name)
    assert done.returncode == 0, done.stderr
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=_SEARCHES)
def search(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of a search."""
    return _SEARCHES[request.param]


async def _fill(url: str) -> None:
    database = open_store(url)
    await database.upgrade()
    async with AuditLog.open(url) as log:
        await log.record_many(
            [
                Event(
                    action=("login", "logout", "role_assign")[n % 3],
                    tenant_id=f"t{n % 2}",
                    actor=Actor.user(f"u{n % 50}"),
                    targets=(Target("user", f"u{n % 11}"),),
                )
                for n in range(1000)
            ]
        )
    while await database.index_pending(1000):
        pass
    await database.close()


async def _walk(log: AuditLog, search: dict[str, Any]) -> None:
    """Two pages: the second one starts behind a cursor."""
    page = await log.search(**search, limit=5)
    if page.next_cursor:
        await log.search(**search, limit=5, cursor=page.next_cursor)


def _check(statement: Select[Any]) -> None:
    """No OFFSET anywhere; a count is a guess at what to begin with, and stops at a limit."""
    parts = [part for part in iterate(statement) if isinstance(part, Select)]
    assert all(part._offset_clause is None for part in parts)
    counts = any(isinstance(part, count) for part in iterate(statement))
    assert not counts or any(part._limit_clause is not None for part in parts)


async def test_sqlite_reads_no_table_whole(
    sqlite_place: str, search: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and postings are reached by key or index only, and pages come in order."""
    plans: list[str] = []
    rows = SqliteStore._rows

    async def explained(self: SqliteStore, statement: Any) -> list[Any]:
        _check(statement)
        options = {"render_postcompile": True}
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs=options)
        values = [compiled.params[name] for name in compiled.positiontup]
        steps = await self._read(
            lambda c: c.execute(f"EXPLAIN QUERY PLAN {compiled}", values).fetchall()
        )
        plans.extend(step[3] for step in steps)
        return await rows(self, statement)

    monkeypatch.setattr(SqliteStore, "_rows", explained)
    async with AuditLog.open(sqlite_place) as log:
        await _walk(log, search)
    assert plans
    assert [p for p in plans if re.match(r"SCAN muniment_(events|postings)", p)] == []


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _is_bounded(sort: dict[str, Any]) -> bool:
    """Whether what is sorted was limited before, or is nothing but the unindexed events."""
    nodes = list(_nodes(sort))
    indexes = [node["Index Name"] for node in nodes if "Index Name" in node]
    return any(node["Node Type"] == "Limit" for node in nodes) or all(
        "epoch_xid" in name or name == "index_state_pkey" for name in indexes
    )


async def test_postgres_reads_and_sorts_no_table_whole(
    postgres_place: str, search: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sequential scan of events or postings, and no sort but of a page."""
    plans: list[dict[str, Any]] = []
    run = page.run

    async def explained(connection: Any, statement: Any) -> list[Any]:
        _check(statement)

        class Explaining:
            async def fetch(self, sql: str, *values: Any) -> Any:
                found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values)
                plans.extend(item["Plan"] for item in msgspec.json.decode(found))
                return await connection.fetch(sql, *values)

        return await run(Explaining(), statement)

    monkeypatch.setattr(store, "run", explained)
    async with AuditLog.open(postgres_place) as log:
        await _walk(log, search)
    nodes = [node for plan in plans for node in _nodes(plan)]
    assert nodes
    whole = [
        node["Relation Name"]
        for node in nodes
        if node["Node Type"] == "Seq Scan" and node["Relation Name"].startswith(("events", "post"))
    ]
    sorts = [node for node in nodes if "Sort" in node["Node Type"] and not _is_bounded(node)]
    assert (whole, sorts) == ([], [])
