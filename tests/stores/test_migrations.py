"""Schemas are made, checked and refused."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from muniment import AuditLog
from muniment.errors import SchemaMismatch, StoreError, UnsafeStore
from muniment.stores import open_store
from muniment.stores.migrating import revisions
from muniment.stores.schema import POSTGRES_REVISION, SQLITE_REVISION
from muniment.stores.sqlite.store import SqliteStore
from muniment.testing.contract import sealed
from tests.servers.postgres import PostgresServer


async def _make_newer(url: str) -> None:
    """Say that a newer muniment has migrated the database."""
    store = open_store(url)
    await store.upgrade()
    await store.close()
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("UPDATE muniment_schema_version SET version_num = '9999'")
    else:
        server = await asyncpg.connect(url)
        await server.execute("UPDATE muniment.schema_version SET version_num = '9999'")
        await server.close()


def test_the_newest_revision_is_the_one_that_is_wanted() -> None:
    """What the stores check for is what the migrations lead to."""
    newest = (revisions("sqlite")[-1], revisions("postgres")[-1])
    assert newest == (SQLITE_REVISION, POSTGRES_REVISION)


async def test_a_newer_schema_is_refused_when_opened(store_url: str) -> None:
    """Opening a newer database fails, says which schema it has, and what to do."""
    await _make_newer(store_url)
    with pytest.raises(SchemaMismatch, match=r"schema 9999, newer than .* newer muniment"):
        async with AuditLog.open(store_url):
            pass


async def test_a_newer_schema_is_not_migrated(store_url: str) -> None:
    """`upgrade` leaves a newer database alone."""
    await _make_newer(store_url)
    store = open_store(store_url)
    with pytest.raises(SchemaMismatch, match="newer muniment"):
        await store.upgrade()
    assert (await store.schema_status()).current == "9999"
    await store.close()


async def test_an_empty_postgres_is_refused_with_the_remedy(postgres_url: str) -> None:
    """PostgreSQL is not migrated behind an administrator's back."""
    with pytest.raises(SchemaMismatch, match="db upgrade"):
        async with AuditLog.open(postgres_url):
            pass


async def test_an_empty_sqlite_that_may_not_be_migrated(sqlite_url: str) -> None:
    """SQLite is not either, if it is told so."""
    with pytest.raises(SchemaMismatch, match="db upgrade"):
        async with AuditLog.open(sqlite_url, store_options={"migrate": False}):
            pass


async def test_many_may_migrate_at_once(store_url: str) -> None:
    """Services that start together on an empty database all get the schema."""
    stores = [open_store(store_url) for _ in range(5)]
    statuses = await asyncio.gather(*(store.upgrade() for store in stores))
    for store in stores:
        await store.close()
    assert all(status.is_current for status in statuses)


async def test_a_failed_migration_leaves_nothing(postgres_url: str) -> None:
    """A migration that fails half-way is rolled back whole."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(
        "CREATE SCHEMA muniment; CREATE TABLE muniment.idempotency_keys (x int)"
    )
    store = open_store(postgres_url)
    with pytest.raises((StoreError, Exception), match="already exists"):
        await store.upgrade()
    left = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'muniment'::regnamespace"
    )
    await connection.close()
    assert [row[0] for row in left] == ["idempotency_keys"]


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of something else is left alone, and named."""
    file = tmp_path / "audit.db"
    file.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"audit\.db: file is not a database"):
        async with AuditLog.open(f"sqlite:///{file}"):
            pass
    assert file.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("setting", ["synchronous_commit", "fsync"])
async def test_a_postgres_that_may_lose_events_is_refused(setting: str) -> None:
    """A server or database that does not sync is refused, unless told otherwise."""
    settings: dict[str, Any] = {setting: "off"}
    with PostgresServer(**settings) as server:
        url = server.url(server.create_database())
        store = open_store(url)
        await store.upgrade()
        with pytest.raises(UnsafeStore, match=f"{setting} off"):
            await store.open()
        await store.close()
        async with AuditLog.open(url, store_options={"allow_unsafe": True}) as log:
            assert (await log.record("login")).durable_in == "store"


async def test_a_restored_database_begins_a_new_epoch(postgres_url: str) -> None:
    """In another cluster transaction ids start over: opening asks for `db upgrade` first."""
    store = open_store(postgres_url)
    await store.upgrade()
    async with AuditLog.open(postgres_url) as log:
        before = await log.record("login")
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("UPDATE muniment.epochs SET system_identifier = 1")
    with pytest.raises(SchemaMismatch, match="new epoch"):
        async with AuditLog.open(postgres_url):
            pass
    await store.upgrade()
    async with AuditLog.open(postgres_url) as log:
        after = await log.record("logout")
    in_order = [e.stored.event_id for e in await store.read(None, 10)]
    await store.close()
    await connection.close()
    assert in_order == [before.event_id, after.event_id]


async def test_a_cluster_that_changes_under_an_open_store_is_refused(postgres_url: str) -> None:
    """After a failover to a restored cluster nothing is stored or read before it is adopted."""
    store = open_store(postgres_url)
    await store.upgrade()
    await store.append([sealed(1)])
    await store.read(None, 9)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("UPDATE muniment.epochs SET system_identifier = 1")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(2):  # the first may find that its connection is gone
        with pytest.raises(StoreError):
            await store.append([sealed(2)])
    with pytest.raises(SchemaMismatch, match="new epoch"):
        await store.append([sealed(2)])
    with pytest.raises(SchemaMismatch, match="new epoch"):
        await store.read(None, 9)
    await store.upgrade()
    await store.append([sealed(2)])
    assert len(await store.read(None, 9)) == 2
    await store.close()
    await connection.close()


async def test_a_migration_of_sqlite_is_one_transaction(tmp_path: Path) -> None:
    """Of several processes that open a new file, one migrates: it commits once, at the end."""
    path = tmp_path / "a.db"
    told: list[str] = []
    connection = sqlite3.connect(path, isolation_level=None)
    connection.set_trace_callback(told.append)
    SqliteStore(path)._upgrade(connection)
    connection.close()
    ends = [sql for sql in told if sql.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]
    assert ends == ["BEGIN IMMEDIATE", "COMMIT"]
    assert told.index("BEGIN IMMEDIATE") < min(
        n for n, sql in enumerate(told) if "muniment_schema_version" in sql
    )
