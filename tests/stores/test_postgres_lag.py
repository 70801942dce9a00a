"""How far sequencing is behind in PostgreSQL, and whose transaction holds it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from muniment.event_id import lowest_id_at
from muniment.growing import grow
from muniment.sealing import Sealer
from muniment.stores import open_store
from muniment.stores.base import Sealed, Store
from tests.servers.postgres import Postgres, PostgresServer
from tests.stores.leaves import integrate_all
from tests.stores.secured import Secured, secured

_HOUR = 3600.0


def _sealed(*, ago: float = 0.0, **fields: object) -> Sealed:
    """An event recorded so many seconds ago."""
    then = datetime.now(UTC) - timedelta(seconds=ago)
    return Sealer(clock=lambda: then).seal_call("login", {"tenant_id": "acme", **fields})


@pytest.fixture
async def store(postgres_log_url: str) -> AsyncIterator[Store]:
    """An open store."""
    store = open_store(postgres_log_url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def connection(postgres_log_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A superuser's connection, named `idler`."""
    settings = {"application_name": "idler"}
    connection = await asyncpg.connect(postgres_log_url, server_settings=settings)
    yield connection
    await connection.close()


@pytest.fixture
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database with events of two tenants, none of them sequenced."""
    with secured(postgres_server) as place:
        yield place


async def test_nothing_to_do_is_no_lag(store: Store) -> None:
    """Without an event, and when all have their leaves, it is 0 on nobody's account."""
    empty = await store.trees.lag()
    await store.append([_sealed(ago=_HOUR)])
    await integrate_all(store)
    done = await store.trees.lag()
    assert [(lag.seconds, lag.culprits) for lag in (empty, done)] == [(0.0, ()), (0.0, ())]


async def test_the_lag_is_the_age_of_the_first_event_without_a_leaf(store: Store) -> None:
    """It counts from when it was recorded, however long ago it occurred."""
    await store.append([_sealed(ago=5 * _HOUR)])
    await store.append([_sealed(ago=2 * _HOUR, occurred_at=datetime(2021, 5, 17, tzinfo=UTC))])
    await store.append([_sealed(ago=_HOUR)])
    await store.trees.integrate(1, grow)
    assert 2 * _HOUR <= (await store.trees.lag()).seconds < 2.5 * _HOUR


async def test_an_event_of_the_future_is_no_negative_lag(store: Store) -> None:
    """Clocks differ."""
    await store.append([_sealed(ago=-60)])
    assert (await store.trees.lag()).seconds == 0.0


@pytest.mark.parametrize(
    "body", ["erased", "", "{}", "not JSON", '{"recorded_at":"infinity"}', "[[[["]
)
async def test_without_a_time_in_the_body_the_id_tells(
    store: Store, connection: asyncpg.Connection[asyncpg.Record], body: str
) -> None:
    """Erased or not written by us: the age is then that of the id, and no error."""
    then = datetime.now(UTC) - timedelta(hours=1)
    event_id = lowest_id_at(then).hex()
    await connection.execute("SELECT muniment.ensure_partition($1)", then)
    await connection.execute(
        "INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body) VALUES "
        "('acme', ($1::text)::uuid, decode(repeat('00', 32), 'hex'), '', $2)",
        event_id,
        None if body == "erased" else body,
    )
    assert _HOUR - 1 <= (await store.trees.lag()).seconds < 1.5 * _HOUR


async def test_a_body_with_an_escaped_nul(store: Store) -> None:
    """PostgreSQL's own JSON knows no NUL; the time is found all the same."""
    old = datetime(2021, 5, 17, tzinfo=UTC)
    await store.append([_sealed(ago=_HOUR, occurred_at=old, details={"a": "\0", "b": "\\u0000"})])
    assert _HOUR <= (await store.trees.lag()).seconds < 1.5 * _HOUR


async def test_an_idle_transaction_is_named(
    store: Store, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """By its pid, with what else helps to find it; it is no more once it has ended."""
    transaction = connection.transaction()
    await transaction.start()
    await store.append_in(connection, _sealed(ago=_HOUR))
    await store.append([_sealed(ago=60)])
    assert await integrate_all(store) == 0
    held = await store.trees.lag()
    database = await connection.fetchval("SELECT current_database()")
    await transaction.rollback()
    ended = await store.trees.lag()
    assert len(held.culprits) == 1
    assert held.culprits[0].startswith(
        f"pid {connection.get_server_pid()} (idler, idle in transaction, begun "
    )
    assert held.culprits[0].endswith(f" s ago, database {database})")
    assert 60 <= held.seconds < _HOUR  # of what is committed
    assert (ended.culprits, await integrate_all(store)) == ((), 1)


async def test_an_idle_transaction_of_another_database_is_named(
    store: Store, postgres_server: Postgres
) -> None:
    """Transaction ids are the cluster's: so is what waits for them."""
    connection = await asyncpg.connect(postgres_server.url())
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT pg_current_xact_id()")
    await store.append([_sealed()])
    held = (await integrate_all(store), await store.trees.lag())
    await transaction.rollback()
    await connection.close()
    assert held[0] == 0
    (culprit,) = held[1].culprits
    assert culprit.startswith(f"pid {connection.get_server_pid()} (")
    assert "database postgres" in culprit


async def test_a_transaction_that_holds_nothing_up_is_not_named(
    store: Store, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """One that began when the last pending event was committed, and one that only reads."""
    reading = connection.transaction(isolation="repeatable_read")
    await reading.start()
    await connection.execute("SELECT 1 FROM muniment.events")
    await store.append([_sealed(ago=60)])
    reads = await store.trees.lag()
    await reading.rollback()
    later = connection.transaction()
    await later.start()
    await store.append_in(connection, _sealed())
    lag = await store.trees.lag()
    await later.rollback()
    assert (reads.culprits, lag.culprits) == ((), ())
    assert lag.seconds >= 60


async def test_a_prepared_transaction_is_named() -> None:
    """By its gid: it has no process any more, and survives a restart of the server."""
    with PostgresServer(autovacuum="off", max_prepared_transactions="2") as server:
        url = server.url(server.create_database())
        store = open_store(url, migrate=True)
        await store.open()
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN")
        await store.append_in(connection, _sealed())
        await connection.execute("PREPARE TRANSACTION 'forgotten'")
        await connection.close()
        await store.append([_sealed()])
        (culprit,) = (await store.trees.lag()).culprits
        assert await integrate_all(store) == 0
        await store.close()
        server.stop()
        server.start()
        await store.open()
        (still,) = (await store.trees.lag()).culprits
        done = server.psql("COMMIT PREPARED 'forgotten'", url.rpartition("/")[2])
        assert (done.returncode, await integrate_all(store)) == (0, 2)
        await store.close()
    for each in (culprit, still):
        assert each.startswith("prepared transaction 'forgotten' (begun ")


async def test_every_role_is_told_the_lag(place: Secured) -> None:
    """Whatever tenant the first event is of; and by their pids who holds it up, if no more."""
    holding = await asyncpg.connect(place.url())
    transaction = holding.transaction()
    await transaction.start()
    await holding.execute("SELECT pg_current_xact_id()")
    place.answer(
        "INSERT INTO muniment.events (tenant_id, event_id, leaf_hash, terms, body) SELECT "
        "'globex', muniment.lowest_id('2021-05-03Z'), leaf_hash, '', '{}' FROM muniment.events "
        "LIMIT 1"
    )
    told = {}
    roles = (place.acme_reader, place.unbound_writer, place.keeper, place.sequencer)
    for role in roles:
        store = open_store(place.url(role))
        await store.open()
        told[role] = await store.trees.lag()
        await store.close()
    await transaction.rollback()
    await holding.close()
    for lag in told.values():
        assert lag.seconds > 0
        (culprit,) = lag.culprits
        assert culprit.startswith(f"pid {holding.get_server_pid()} (")


def test_the_lag_is_all_that_is_told(place: Secured) -> None:
    """A stranger may not even ask; a role without a binding learns two figures."""
    stranger = place.server.create_role()
    asked = place.run("SELECT * FROM muniment.sequencing_lag()", stranger)
    place.server.drop_role(stranger)
    assert "permission denied" in asked.stderr
    (answer,) = place.answer("SELECT * FROM muniment.sequencing_lag()", place.unbound_writer)
    seconds, waits_for = answer.split("|")
    assert (float(seconds) > 0, waits_for) == (True, "{}")


async def test_a_long_lag_is_found_at_once(
    store: Store, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A backlog of thousands behind an idle transaction takes no scan for each poll."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT pg_current_xact_id()")
    for _ in range(4):
        await store.append([_sealed() for _ in range(5000)])
    looking = await asyncpg.connect(store.url)
    await asyncio.gather(*(store.trees.integrate(1000, grow) for _ in range(3)))
    async with asyncio.timeout(30):
        while True:  # of the server's own count, which follows
            await looking.execute("SELECT pg_stat_force_next_flush()")
            before = await _rows_read(looking)
            await store.trees.lag()
            await store.trees.integrate(1000, grow)
            await looking.execute("SELECT pg_stat_force_next_flush()")
            if await _rows_read(looking) - before <= 10:
                break
    await looking.close()
    await transaction.rollback()


async def _rows_read(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    value = await connection.fetchval(
        "SELECT sum(idx_tup_fetch + seq_tup_read) FROM pg_stat_user_tables "
        "WHERE relname LIKE 'events%'"
    )
    return int(value)
