"""What a step of PostgreSQL's sequencer reads, and how much of it it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from muniment.growing import grow
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.postgres import trees, trees_sql
from muniment.stores.postgres.page import BY_INDEX
from muniment.testing.contract import sealed
from tests.stores.leaves import in_order, integrate_all, leaves_of

_TENANTS = ("acme", "globex")


@pytest.fixture
async def store(postgres_log_url: str) -> AsyncIterator[Store]:
    """An open store."""
    store = open_store(postgres_log_url)
    await store.open()
    yield store
    await store.close()


async def test_a_pass_without_work_writes_nothing(store: Store, postgres_log_url: str) -> None:
    """A sequencer that polls every second takes no lock, and no transaction id."""
    await store.append([sealed(1)])
    await integrate_all(store)
    connection = await asyncpg.connect(postgres_log_url)
    state = "SELECT xmin::text, xmax::text, s::text FROM muniment.sequencer_state s"
    before = await connection.fetchrow(state)
    assert await store.trees.integrate(10, grow) == 0
    assert await connection.fetchrow(state) == before
    await connection.close()


async def test_what_is_pending_is_a_range_of_the_index(store: Store, postgres_log_url: str) -> None:
    """Neither what has its leaf nor what is not yet to have one is looked through."""
    for part in range(3):
        for _ in range(10):
            await store.append([sealed(n) for n in range(30)])
        if part == 0:
            await integrate_all(store)
        elif part == 1:
            holding = await asyncpg.connect(postgres_log_url)
            await holding.execute("BEGIN; SELECT pg_current_xact_id()")
    connection = await asyncpg.connect(postgres_log_url)
    poll = await _rows_read(connection, trees_sql.IS_PENDING)
    elected = await connection.fetch(trees_sql.ELECT)
    settled = elected[0][3:]
    part_of_it = await _rows_read(connection, trees_sql.PENDING, *settled, 50, 1000)
    all_of_it = await _rows_read(connection, trees_sql.PENDING, *settled, 1000, 1000)
    await holding.close()
    await connection.close()
    assert (poll, all_of_it) == (1, 300)
    assert 51 <= part_of_it <= 61  # whole transactions, to sort them


async def _rows_read(
    connection: asyncpg.Connection[asyncpg.Record], statement: str, *values: object
) -> int:
    """How many events a statement reads."""
    reads = (
        "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::int FROM pg_stat_xact_user_tables "
        "WHERE relname LIKE 'events%'"
    )
    async with connection.transaction():
        await connection.execute(BY_INDEX)
        before = await connection.fetchval(reads)
        await connection.fetch(statement, *values)
        return int(await connection.fetchval(reads)) - int(before)


async def test_a_large_transaction_is_taken_in_few_steps(store: Store) -> None:
    """Once a step ends inside it the next takes its rest, and goes on with what comes behind."""
    await store.append([sealed(n, tenant_id=_TENANTS[n % 2]) for n in range(600)])
    for n in range(20):
        await store.append([sealed(n), sealed(n, tenant_id="globex")])
    steps = []
    while done := await store.trees.integrate(7, grow):
        steps.append(done)
    assert steps == [7, 593, 7, 7, 7, 7, 7, 5]
    for tenant in _TENANTS:
        assert await leaves_of(store, tenant) == await in_order(store, tenant)


async def test_not_even_the_rest_of_a_transaction_is_unlimited(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken in parts of their own size; the last takes up to the limit of what follows."""
    monkeypatch.setattr(trees, "_OF_ONE_TRANSACTION", 100)
    await store.append([sealed(n) for n in range(210)])
    await store.append([sealed(n) for n in range(30)])
    steps = []
    while done := await store.trees.integrate(20, grow):
        steps.append(done)
    assert steps == [20, 100, 90, 20, 10]
    assert await leaves_of(store, "acme") == await in_order(store, "acme")


async def test_what_was_pending_and_is_gone_is_passed(store: Store, postgres_log_url: str) -> None:
    """The rest of a transaction may be removed before it has leaves; a poll is idle then."""
    await store.append([sealed(n) for n in range(20)])
    await store.trees.integrate(5, grow)
    connection = await asyncpg.connect(postgres_log_url)
    await connection.execute(
        "BEGIN; SET LOCAL ROLE muniment_keeper; DELETE FROM muniment.events WHERE seq > "
        "(SELECT seq FROM muniment.sequencer_state); COMMIT"
    )
    before = await store.trees.integrated_to()
    assert await store.trees.integrate(5, grow) == 0
    assert await connection.fetchval(trees_sql.IS_PENDING) is False
    assert await store.trees.integrated_to() == before
    await connection.close()
    await store.append([sealed(1)])
    assert await integrate_all(store) == 1
