"""Trees in PostgreSQL: who writes at once, what is cancelled, hangs, or goes through a pooler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence

import asyncpg
import pytest
from alembic import command

from muniment.errors import StoreError
from muniment.growing import frontier_of, grow
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.postgres import trees_sql
from muniment.stores.postgres.append import INSERT, transposed
from muniment.stores.postgres.sql import ENSURE_PARTITION
from muniment.stores.trees import Growth, PendingEvent, Published, Tree
from muniment.testing.contract import NOON, sealed
from tests.servers.pgbouncer import PgBouncer
from tests.stores.leaves import in_order, integrate_all, leaves_of

_TENANTS = ("acme", "globex")


@pytest.fixture
async def store(postgres_log_url: str) -> AsyncIterator[Store]:
    """An open store."""
    store = open_store(postgres_log_url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(postgres_log_url: str) -> AsyncIterator[Store]:
    """Another process's store over the same database."""
    store = open_store(postgres_log_url)
    await store.open()
    yield store
    await store.close()


class _Held:
    """A `grow` that waits in the middle until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._go_on = threading.Event()

    def __call__(
        self, events: Sequence[PendingEvent], trees: Mapping[str, Tree]
    ) -> Sequence[Growth]:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self._go_on.wait(60)
        return grow(events, trees)

    def let_go(self) -> None:
        self._go_on.set()


# --- who writes at once


async def test_every_event_gets_one_leaf_whoever_writes_at_once(
    store: Store, other: Store, postgres_log_url: str
) -> None:
    """Appends, slow transactions, savepoints, rollbacks, two sequencers: none missing, none twice.

    The leaves stand in the order of recording.
    """
    recorded = asyncio.Event()

    async def append(writer: int) -> None:
        for n in range(12):
            batch = [sealed(n, tenant_id=each) for each in _TENANTS for _ in range(writer + 1)]
            await store.append(batch)

    async def in_transactions(tenant: str) -> None:
        connection = await asyncpg.connect(postgres_log_url)
        for n in range(12):
            async with connection.transaction():
                await store.append_in(connection, sealed(n, tenant_id=tenant))
                gone = connection.transaction()
                await gone.start()
                await store.append_in(connection, sealed(n, tenant_id=tenant))
                await gone.rollback()
                async with connection.transaction():
                    await store.append([sealed(n, tenant_id=tenant)])
                    await store.append_in(connection, sealed(n, tenant_id=tenant))
        await connection.close()

    async def slowly() -> None:
        connection = await asyncpg.connect(postgres_log_url)
        async with connection.transaction():
            await store.append_in(connection, sealed(1))
            await asyncio.gather(*(append(writer) for writer in range(3)))
            await store.append_in(connection, sealed(1))
        await connection.close()

    async def sequence(one: Store) -> None:
        while not recorded.is_set():
            await one.trees.integrate(7, grow)
            await asyncio.sleep(0)

    sequencing = [asyncio.create_task(sequence(one)) for one in (store, other)]
    await asyncio.gather(slowly(), *(in_transactions(tenant) for tenant in _TENANTS))
    recorded.set()
    await asyncio.gather(*sequencing)
    await integrate_all(store)
    for tenant in _TENANTS:
        leaves = await leaves_of(store, tenant)
        assert leaves == await in_order(store, tenant)
        assert len(leaves) == 12 * (1 + 2 + 3) + 12 * 3 + (2 if tenant == "acme" else 0)


async def test_nothing_passes_a_transaction_that_is_still_open(
    store: Store, postgres_log_url: str
) -> None:
    """What was recorded after its beginning waits for its end, and comes behind it."""
    connection = await asyncpg.connect(postgres_log_url)
    slow, quick = sealed(1), sealed(2)
    transaction = connection.transaction()
    await transaction.start()
    await store.append_in(connection, slow)
    await store.append([quick])
    before = await integrate_all(store)
    await transaction.commit()
    await connection.close()
    after = await integrate_all(store)
    assert (before, after) == (0, 2)
    assert [leaf[0] for leaf in await leaves_of(store, "acme")] == [slow.event_id, quick.event_id]


async def test_a_transaction_of_more_events_than_a_pass_takes(store: Store) -> None:
    """It is taken in parts: each of its events once, in order."""
    await store.append([sealed(n, tenant_id=_TENANTS[n % 2]) for n in range(600)])
    assert await integrate_all(store, 7) == 600
    for tenant in _TENANTS:
        assert await leaves_of(store, tenant) == await in_order(store, tenant)


# --- one works


async def test_while_one_sequences_others_return_at_once(store: Store, other: Store) -> None:
    """They neither wait nor do anything; nothing is left to do when it is through."""
    await store.append([sealed(1), sealed(2)])
    held = _Held()
    first = asyncio.create_task(store.trees.integrate(10, held))
    await held.began.wait()
    async with asyncio.timeout(30):
        assert await other.trees.integrate(10, grow) == 0
    held.let_go()
    assert await first == 2
    assert await other.trees.integrate(10, grow) == 0


async def test_a_cancelled_pass_leaves_nothing_half_done(store: Store, other: Store) -> None:
    """The next one, of whatever process, gives the same events their leaves."""
    await store.append([sealed(1), sealed(2)])
    held = _Held()
    first = asyncio.create_task(store.trees.integrate(10, held))
    await held.began.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await leaves_of(store, "acme") == []
    held.let_go()
    assert await other.trees.integrate(10, grow) == 2
    assert await leaves_of(store, "acme") == await in_order(store, "acme")


async def test_a_growth_that_fails_leaves_nothing(store: Store) -> None:
    """Its error reaches the caller, and the connection is fit for the next pass."""
    await store.append([sealed(1)])

    def fail(_: Sequence[PendingEvent], __: Mapping[str, Tree]) -> Sequence[Growth]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await store.trees.integrate(10, fail)
    assert await store.trees.integrate(10, grow) == 1


async def test_a_growth_that_can_not_be_is_refused(store: Store) -> None:
    """The database refuses a tree whose edge does not fit its size; no event is at fault."""
    await store.append([sealed(1)])

    def wrong(_: Sequence[PendingEvent], __: Mapping[str, Tree]) -> Sequence[Growth]:
        tree = Tree(tenant_id="acme", tree_size=3, edge=bytes(32))
        return [Growth(old_size=0, tree=tree, tiles={}, bundles={})]

    with pytest.raises(StoreError, match="trees_check") as raised:
        await store.trees.integrate(10, wrong)
    assert type(raised.value) is StoreError
    assert await store.trees.integrate(10, grow) == 1


async def test_who_hangs_is_replaced(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a pass that goes on for ever; another process does its work."""
    await store.append([sealed(1)])
    held = _Held()
    with monkeypatch.context() as patch:
        patch.setattr(trees_sql, "BEGIN", trees_sql.BEGIN.replace("60s", "500ms"))
        first = asyncio.create_task(store.trees.integrate(10, held))
        await held.began.wait()
    async with asyncio.timeout(60):
        while not await other.trees.integrate(10, grow):  # noqa: ASYNC110 - of the server
            await asyncio.sleep(0.05)
    held.let_go()
    with pytest.raises(StoreError):
        await first
    assert await store.trees.integrate(10, grow) == 0
    assert await leaves_of(store, "acme") == await in_order(store, "acme")


async def test_of_those_that_publish_at_once_one_wins(store: Store, other: Store) -> None:
    """Compare-and-swap: of two checkpoints that follow the same one, one is kept."""
    await store.append([sealed(n, tenant_id=f"t{n}") for n in range(20)])
    await integrate_all(store)
    given = [
        Published(
            tenant_id=tree.tenant_id, tree_size=1, root_hash=tree.edge, note=f"{tree.tenant_id}\n"
        )
        for tree in await store.trees.unpublished(20)
    ]
    refused = await asyncio.gather(
        store.trees.publish(given), other.trees.publish(list(reversed(given)))
    )
    assert sorted(tenant for each in refused for tenant in each) == sorted(
        each.tenant_id for each in given
    )
    assert [await store.trees.checkpoint(each.tenant_id) for each in given] == given


# --- in between and from before


async def test_trees_grow_through_a_pooler(postgres_log_url: str, pgbouncer: PgBouncer) -> None:
    """Any transaction may meet another connection; none finds a setting of ours."""
    url = pgbouncer.through(postgres_log_url)
    stores = [open_store(url) for _ in range(3)]
    for store in stores:
        await store.open()
        await store.append([sealed(n, tenant_id=_TENANTS[n % 2]) for n in range(300)])
    total = sum(
        await asyncio.gather(*(integrate_all(store, 50) for store in stores for _ in range(2)))
    )
    first = stores[0]
    assert total == 900
    for tenant in _TENANTS:
        leaves = await leaves_of(first, tenant)
        assert leaves == await in_order(first, tenant)
        assert await first.trees.leaf_index(tenant, leaves[440][0]) == 440
    tree = await first.trees.tree("acme")
    assert tree is not None
    root = frontier_of(tree).root()
    note = Published(tenant_id="acme", tree_size=450, root_hash=root, note="note\n")
    assert await first.trees.publish([note]) == []
    await first.trees.add_signatures("acme", 450, "— w one\n")
    assert [each.note for each in await first.trees.unanchored(5)] == ["note\n— w one\n"]
    assert (await first.trees.lag()).seconds == 0
    for store in stores:
        await store.close()
    connection = await asyncpg.connect(url, statement_cache_size=0)
    changed = await connection.fetch(
        "SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE ANY "
        "(ARRAY['enable%', '%timeout', 'jit', 'plan%'])"
    )
    await connection.close()
    assert changed == []


async def test_a_database_with_events_gets_its_trees(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before there were trees gets its leaves like what comes."""
    upgrade = command.upgrade
    store = open_store(postgres_url)
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        assert (await store.upgrade()).current == "0001"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(ENSURE_PARTITION, NOON)
    await connection.execute(INSERT, *transposed([sealed(n) for n in range(300)]))
    await connection.close()
    assert (await store.upgrade()).is_current
    await store.append([sealed(1)])
    assert await integrate_all(store) == 301
    assert await leaves_of(store, "acme") == await in_order(store, "acme")
    await store.close()


async def test_the_upgrade_waits_for_nobody_who_writes(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that has recorded an event, and one that reads, are open all the while."""
    upgrade = command.upgrade
    store = open_store(postgres_url)
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        await store.upgrade()
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(ENSURE_PARTITION, NOON)
    await connection.execute("BEGIN")
    await connection.execute(INSERT, *transposed([sealed(1)]))
    await connection.execute("SELECT 1 FROM muniment.events")
    async with asyncio.timeout(30):
        assert (await store.upgrade()).is_current
    await connection.execute("COMMIT")
    await connection.close()
    assert await integrate_all(store) == 1
    await store.close()
