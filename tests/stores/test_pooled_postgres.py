"""PostgreSQL behind PgBouncer in transaction mode: any statement may meet another connection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from muniment import AuditLog, Event
from muniment.errors import EventRefused, StoreUnavailable
from muniment.stores import open_store
from muniment.stores.postgres.checks import is_pooled
from tests.cli.running import muniment
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Postgres
from tests.stores.secured import secured

_LOGS = 3
_TASKS = 4
_EACH = 15
# What PgBouncer itself sets for each client.
_OF_THE_CLIENT = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
)


@pytest.fixture
def pooled_url(postgres_log_url: str, pgbouncer: PgBouncer) -> str:
    """The URL of a database that is ready to be recorded in, two connections for all."""
    return pgbouncer.through(postgres_log_url)


@pytest.fixture
def narrow_url(postgres_server: Postgres, postgres_log_url: str) -> Iterator[str]:
    """The same with one connection for all."""
    with PgBouncer(postgres_server, pool_size=1) as bouncer:
        yield bouncer.through(postgres_log_url)


@pytest.fixture
def bound_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL for a writer bound to the tenant acme."""
    with secured(postgres_server) as place, PgBouncer(postgres_server) as bouncer:
        yield bouncer.through(place.url(place.acme_writer))


async def _connect(url: str) -> Any:
    """The application's own connection, as one must be behind such a pooler."""
    return await asyncpg.connect(url, statement_cache_size=0)


async def test_many_record_search_and_tail_at_once(pooled_url: str) -> None:
    """Nothing is lost, doubled or out of order when a dozen tasks of three logs share two."""
    async with AuditLog.open(pooled_url) as log, asyncio.timeout(60):
        start = await log.record("start")
        total = _LOGS * _TASKS * _EACH

        async def record(other: AuditLog, task: str) -> None:
            for n in range(_EACH // 3):
                await other.record(task, tenant_id="acme", details={"n": 3 * n})
                many = [
                    Event(action=task, tenant_id="acme", details={"n": 3 * n + k}) for k in (1, 2)
                ]
                await other.record_many(many)
                assert (await other.search(action=task, limit=1)).events[0].action == task
                assert (await other.get(many[0].event_id)).details == {"n": 3 * n + 1}

        async def one_log(name: int) -> None:
            async with AuditLog.open(pooled_url) as other:
                await asyncio.gather(*(record(other, f"log{name}.task{n}") for n in range(_TASKS)))
                other.emit(f"log{name}.done", tenant_id="acme")

        async def tail() -> list[Event]:
            seen: list[Event] = []
            async for event in log.tail(after=start.event_id):
                seen.append(event)
                if len(seen) == total + _LOGS:
                    break
            return seen

        tailing = asyncio.create_task(tail())
        await asyncio.gather(*(one_log(n) for n in range(_LOGS)))
        seen = await tailing
        stats = await log.stats()
    orders: dict[str, list[int]] = {}
    for event in seen:
        orders.setdefault(event.action, []).append(event.details.get("n", 0))
    done = {f"log{n}.done": [0] for n in range(_LOGS)}
    tasks = {f"log{n}.task{k}": list(range(_EACH)) for n in range(_LOGS) for k in range(_TASKS)}
    assert orders == tasks | done
    assert stats["store"]["events"] == total + _LOGS + 1


async def test_a_search_finds_what_is_indexed_and_what_is_not(pooled_url: str) -> None:
    """Several terms, categories and all tenants: every kind of statement finds its events."""
    async with AuditLog.open(pooled_url) as log:
        for n in range(4):
            await log.record("login" if n % 2 else "logout", tenant_id=f"t{n}")
            if n == 1:
                while await log.store.index_pending(100):
                    pass
        found = Counter(e.action for e in (await log.search(action=["login", "logout"])).events)
        by_category = await log.search(action="log*", outcome="unknown", since="1h")
    assert found == {"login": 2, "logout": 2}
    assert len(by_category.events) == 4


async def test_recording_in_the_transaction_of_an_asyncpg_connection(pooled_url: str) -> None:
    """The event commits with the caller's data, and rolls back with it."""
    connection = await _connect(pooled_url)
    async with AuditLog.open(pooled_url) as log:
        async with connection.transaction():
            await log.record_in(connection, "kept", idempotency_key="k1")
        rolled_back = connection.transaction()
        await rolled_back.start()
        await log.record_in(connection, "gone")
        await rolled_back.rollback()
        assert [event.action for event in (await log.search()).events] == ["kept"]
    await connection.close()


async def test_recording_in_the_transaction_of_a_session(pooled_url: str) -> None:
    """An SQLAlchemy session, set up as SQLAlchemy says for such poolers, will do."""
    engine = create_async_engine(
        pooled_url.replace("postgresql://", "postgresql+asyncpg://"),
        poolclass=NullPool,
        connect_args={
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        },
    )
    async with AuditLog.open(pooled_url) as log, AsyncSession(engine) as session:
        await log.record_in(session, "kept")
        await session.commit()
        await log.record_in(session, "gone")
        await session.rollback()
        assert [event.action for event in (await log.search()).events] == ["kept"]
    await engine.dispose()


def test_the_schema_is_migrated_and_looked_at(postgres_url: str, pgbouncer: PgBouncer) -> None:
    """`db upgrade` and `db status` work, one after the other, again and again."""
    url = pgbouncer.through(postgres_url)
    answers = [
        muniment("db", command, url=url).exit_code
        for command in ("status", "upgrade", "status", "upgrade", "status")
    ]
    assert answers == [1, 0, 0, 0, 0]


async def test_nothing_is_left_in_a_session(narrow_url: str) -> None:
    """The next one to be lent the connection finds no settings, statements or locks of ours."""
    async with AuditLog.open(narrow_url) as log:
        await log.record("login", tenant_id="acme", idempotency_key="k1")
        await log.record(
            "login", tenant_id="acme", occurred_at=datetime(2021, 5, 17, 8, 30, tzinfo=UTC)
        )
        await log.search(action="log*", tenant_id="acme")
        await log.store.index_pending(10)
        await log.stats()
    await open_store(narrow_url).upgrade()
    connection = await _connect(narrow_url)
    changed = await connection.fetch(
        "SELECT name FROM pg_settings WHERE source = 'session' AND name <> ALL($1::text[])",
        list(_OF_THE_CLIENT),
    )
    statements = await connection.fetch(
        "SELECT name, statement FROM pg_prepared_statements WHERE name <> ''"
    )
    locks = await connection.fetch(
        "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE locktype = 'advisory' AND datname = current_database()"
    )
    await connection.close()
    assert (changed, statements, locks) == ([], [], [])


async def test_a_caller_that_holds_the_last_connection_is_not_kept_waiting(narrow_url: str) -> None:
    """A month without a partition then is an error soon; it is no deadlock, and the retry works."""
    options = {"connect_timeout": 1.0}
    old = datetime(2021, 5, 17, 8, 30, tzinfo=UTC)
    connection = await _connect(narrow_url)
    async with AuditLog.open(narrow_url, store_options=options) as log, asyncio.timeout(30):
        held = connection.transaction()
        await held.start()
        await connection.execute("SELECT 1")
        with pytest.raises(StoreUnavailable):
            await log.record_in(connection, "login", occurred_at=old)
        await held.rollback()
        await log.record("login", occurred_at=old)
        async with connection.transaction():
            await log.record_in(connection, "login", occurred_at=old)
        assert len((await log.search(action="login")).events) == 2
    await connection.close()


async def test_a_bound_writer_behind_a_pooler(bound_url: str) -> None:
    """Row security binds the role that logs in, whichever connection serves it."""
    async with AuditLog.open(bound_url) as log:
        await log.record("invoice.delete", tenant_id="acme")
        with pytest.raises(EventRefused):
            await log.record("login", tenant_id="globex")
        page = await log.search()
    assert page.events[0].action == "invoice.delete"
    assert {event.tenant_id for event in page.events} == {"acme"}


async def test_a_pooler_is_told_from_a_server(postgres_log_url: str, pooled_url: str) -> None:
    """Only behind a pooler are statements not kept, which is slower."""
    direct, pooled = await _connect(postgres_log_url), await _connect(pooled_url)
    assert (await is_pooled(direct), await is_pooled(pooled)) == (False, True)
    await direct.close()
    await pooled.close()
