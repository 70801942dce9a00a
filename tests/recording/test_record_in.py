"""Recording in the caller's own transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from muniment import AuditLog, Event
from muniment.errors import Conflict, InvalidEvent, SchemaMismatch, StoreError
from tests.servers.postgres import Postgres


@pytest.fixture
async def engine(log_url: str) -> AsyncIterator[AsyncEngine]:
    """The application's own engine over the log's database, with a table of its own."""
    driver = "sqlite+aiosqlite" if log_url.startswith("sqlite") else "postgresql+asyncpg"
    engine = create_async_engine(f"{driver}://{log_url.partition('://')[2]}")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE invoices (id integer PRIMARY KEY)"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AuditLog]:
    """A log over the same database."""
    async with AuditLog.open(log_url) as log:
        yield log


async def _both(engine: AsyncEngine, log: AuditLog) -> tuple[int, int]:
    """How many invoices and how many events there are."""
    async with engine.connect() as connection:
        invoices = await connection.scalar(text("SELECT count(*) FROM invoices"))
    return invoices or 0, len((await log.search(limit=500)).events)


_INSERT = text("INSERT INTO invoices VALUES (1)")


async def test_it_commits_with_the_session(engine: AsyncEngine, log: AuditLog) -> None:
    """The event is there once the session has committed, and not before."""
    async with AsyncSession(engine) as session:
        await session.execute(_INSERT)
        receipt = await log.record_in(session, "invoice.create", tenant_id="acme")
        assert receipt.durable_in == "transaction"
        assert (await log.search()).events == []
        await session.commit()
    assert await _both(engine, log) == (1, 1)
    assert (await log.get(receipt.event_id)).action == "invoice.create"


async def test_it_rolls_back_with_the_session(engine: AsyncEngine, log: AuditLog) -> None:
    """Neither the data nor the event are there after a rollback."""
    async with AsyncSession(engine) as session:
        await session.execute(_INSERT)
        await log.record_in(session, "invoice.create", tenant_id="acme")
        await session.rollback()
    assert await _both(engine, log) == (0, 0)


async def test_it_takes_a_connection(engine: AsyncEngine, log: AuditLog) -> None:
    """An SQLAlchemy `AsyncConnection` will do as well."""
    async with engine.begin() as connection:
        await connection.execute(_INSERT)
        await log.record_in(connection, "invoice.create", tenant_id="acme")
    assert await _both(engine, log) == (1, 1)


async def test_it_takes_an_event(engine: AsyncEngine, log: AuditLog) -> None:
    """An `Event` keeps its id."""
    event = Event(action="invoice.create", tenant_id="acme")
    async with engine.begin() as connection:
        receipt = await log.record_in(connection, event)
    assert receipt.event_id == event.event_id


async def test_a_savepoint_takes_it_back(engine: AsyncEngine, log: AuditLog) -> None:
    """Rolling back to a savepoint takes the event of its block, and no other."""
    async with AsyncSession(engine) as session:
        await log.record_in(session, "kept", tenant_id="acme")
        nested = await session.begin_nested()
        await log.record_in(session, "taken.back", tenant_id="acme")
        await nested.rollback()
        await session.commit()
    assert [event.action for event in (await log.search()).events] == ["kept"]


async def test_a_repeated_event_leaves_the_transaction_usable(
    engine: AsyncEngine, log: AuditLog
) -> None:
    """The same event again is told by its receipt; the caller's transaction goes on."""
    event = Event(action="invoice.create", tenant_id="acme")
    await log.record(event)
    async with AsyncSession(engine) as session:
        assert (await log.record_in(session, event)).already
        await session.execute(_INSERT)
        await session.commit()
    assert await _both(engine, log) == (1, 1)


async def test_a_key_without_a_time_holds_in_a_transaction(
    engine: AsyncEngine, log: AuditLog
) -> None:
    """An idempotency key leads to the first event here too, and rolls back with it."""
    async with AsyncSession(engine) as session:
        await log.record_in(session, "invoice.pay", tenant_id="acme", idempotency_key="k1")
        await session.rollback()
        first = await log.record_in(session, "invoice.pay", tenant_id="acme", idempotency_key="k1")
        await session.commit()
    again = await log.record("invoice.pay", tenant_id="acme", idempotency_key="k1")
    assert (again.already, again.event_id) == (True, first.event_id)


async def test_bad_input_leaves_the_transaction_usable(engine: AsyncEngine, log: AuditLog) -> None:
    """`record_in` always raises, whatever the policy, and then nothing was executed."""
    async with AsyncSession(engine) as session:
        await session.execute(_INSERT)
        with pytest.raises(InvalidEvent, match=r"details\.x"):
            await log.record_in(session, "invoice.create", details={"x": float("nan")})
        await session.commit()
    assert await _both(engine, log) == (1, 0)


async def test_a_conflict_is_told(engine: AsyncEngine, log: AuditLog) -> None:
    """Another event under the same key is an error to the caller."""
    await log.record("invoice.pay", tenant_id="acme", idempotency_key="k1")
    async with AsyncSession(engine) as session:
        with pytest.raises(Conflict, match="action"):
            await log.record_in(session, "invoice.void", tenant_id="acme", idempotency_key="k1")


async def test_it_takes_an_asyncpg_connection(postgres_log_url: str) -> None:
    """A raw asyncpg connection in a transaction; the event commits with it."""
    connection = await asyncpg.connect(postgres_log_url)
    async with AuditLog.open(postgres_log_url) as log:
        async with connection.transaction():
            await log.record_in(connection, "kept")
        transaction = connection.transaction()
        await transaction.start()
        await log.record_in(connection, "rolled.back")
        await transaction.rollback()
        assert [event.action for event in (await log.search()).events] == ["kept"]
    await connection.close()


async def test_it_takes_a_pooled_asyncpg_connection(postgres_log_url: str) -> None:
    """What a pool hands out is a connection too."""
    async with (
        asyncpg.create_pool(postgres_log_url, min_size=1, max_size=1) as pool,
        AuditLog.open(postgres_log_url) as log,
    ):
        async with pool.acquire() as connection, connection.transaction():
            await log.record_in(connection, "kept")
        assert len((await log.search()).events) == 1


async def test_a_connection_outside_of_a_transaction_is_refused(postgres_log_url: str) -> None:
    """Without a transaction the event would be committed alone: that is `record`."""
    connection = await asyncpg.connect(postgres_log_url)
    async with AuditLog.open(postgres_log_url) as log:
        with pytest.raises(StoreError, match="no transaction"):
            await log.record_in(connection, "login")
    await connection.close()


async def test_a_month_that_has_no_partition_yet(postgres_log_url: str) -> None:
    """An event of a month long ago is recorded in the caller's transaction too."""
    connection = await asyncpg.connect(postgres_log_url)
    async with AuditLog.open(postgres_log_url) as log:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT 1")  # its snapshot is taken before the partition is
            event = Event(action="login", tenant_id="acme", idempotency_key="old")
            old = Event(
                action="login",
                tenant_id="acme",
                occurred_at=event.occurred_at.replace(year=2022, month=2, day=3),
            )
            await log.record_in(connection, old)
        assert (await log.get(old.event_id)).action == "login"
    await connection.close()


@pytest.mark.parametrize("connection", [None, object(), "postgresql://"])
async def test_what_is_no_connection_is_refused(log_url: str, connection: Any) -> None:
    """The error names what is taken."""
    async with AuditLog.open(log_url) as log:
        with pytest.raises(StoreError, match=r"connection: .*AsyncSession"):
            await log.record_in(connection, "login")


async def test_another_sqlite_database_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    """A connection to another file would record the event where nobody looks for it."""
    async with (
        aiosqlite.connect(tmp_path / "other.db") as connection,
        AuditLog.open(sqlite_url) as log,
    ):
        with pytest.raises(StoreError, match="not one to this log's database"):
            await log.record_in(connection, "login")


async def test_another_postgres_database_is_refused(
    postgres_log_url: str, postgres_server: Postgres
) -> None:
    """A connection to a database without the schema says what to do there."""
    connection = await asyncpg.connect(postgres_server.url())
    async with AuditLog.open(postgres_log_url) as log, connection.transaction():
        with pytest.raises(SchemaMismatch, match="db upgrade"):
            await log.record_in(connection, "login")
    await connection.close()
