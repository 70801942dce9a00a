"""SQLite's own refusals, asked through a plain `sqlite3` connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from muniment import AuditLog, Event
from muniment.errors import UnsafeStore
from muniment.stores import open_store

_ALL_EVENTS = "SELECT * FROM muniment_events ORDER BY seq"
_UPSERT = (
    "INSERT INTO muniment_events SELECT seq, tenant_id, event_id, leaf_hash, terms, '{}' "
    "FROM muniment_events WHERE true "
    "ON CONFLICT (tenant_id, event_id) DO UPDATE SET body = excluded.body"
)
_REPLACE = "REPLACE INTO muniment_events (seq, tenant_id, event_id, leaf_hash, terms, body) "


@pytest.fixture
def connection(sqlite_url: str, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to a database with three events."""

    async def record() -> None:
        async with AuditLog.open(sqlite_url) as log:
            await log.record_many([Event(action="login", tenant_id="acme") for _ in range(3)])

    asyncio.run(record())
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE muniment_events SET body = '{}'",
        "UPDATE muniment_events SET body = NULL WHERE seq = 1",
        "UPDATE OR REPLACE muniment_events SET event_id = event_id",
        "DELETE FROM muniment_events",
        "DELETE FROM muniment_events WHERE seq = 3",
        "INSERT OR " + _REPLACE + "SELECT 1, 'x', x'00', x'00', '', ''",
        _REPLACE + "SELECT 1, 'x', zeroblob(16), zeroblob(32), '', '{}'",
        _REPLACE
        + "SELECT NULL, tenant_id, event_id, zeroblob(32), '', '{}' FROM muniment_events LIMIT 1",
        _UPSERT,
    ],
)
def test_a_change_is_refused(connection: sqlite3.Connection, change: str) -> None:
    """UPDATE, DELETE and every form of REPLACE fail, and leave the events as they are."""
    before = connection.execute(_ALL_EVENTS).fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(change)
    assert connection.execute(_ALL_EVENTS).fetchall() == before


def test_recursive_triggers_change_nothing(connection: sqlite3.Connection) -> None:
    """REPLACE is refused whatever the connection's own settings are."""
    connection.execute("PRAGMA recursive_triggers = ON")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(_REPLACE + "SELECT 1, 'x', zeroblob(16), zeroblob(32), '', '{}'")


def test_a_new_event_may_be_inserted(connection: sqlite3.Connection) -> None:
    """What is refused is change, not appending."""
    connection.execute(
        "INSERT INTO muniment_events (tenant_id, event_id, leaf_hash, terms, body) "
        "SELECT 'x', zeroblob(16), zeroblob(32), '', '{}'"
    )
    assert len(connection.execute(_ALL_EVENTS).fetchall()) == 4


def test_what_makes_it_durable_is_on(connection: sqlite3.Connection) -> None:
    """The database is in WAL mode, whoever opens it."""
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_store_that_may_lose_events_is_refused(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the library can't sync fully, opening fails and says why, unless told otherwise."""

    class Careless(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            if sql == "PRAGMA synchronous = FULL":
                sql = "PRAGMA synchronous = NORMAL"
            return super().execute(sql, *args)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Careless, **k))
    store = open_store(sqlite_url)
    with pytest.raises(UnsafeStore, match="synchronous"):
        await store.open()
    await store.close()
    trusting = open_store(sqlite_url, allow_unsafe=True)
    await trusting.open()
    await trusting.close()
