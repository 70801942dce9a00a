"""Trees after a dump and restore: transaction ids start over in another cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from muniment.errors import SchemaMismatch
from muniment.growing import grow
from muniment.stores import open_store
from muniment.testing.contract import sealed
from tests.servers.postgres import PostgresServer, find_binaries
from tests.stores.leaves import in_order, integrate_all, leaves_of

_TENANTS = ("acme", "globex")


@pytest.fixture
def programs() -> Path:
    """Where `pg_dump` and `pg_restore` are: a wheel brings none."""
    binaries = find_binaries()
    if not all(os.access(binaries / name, os.X_OK) for name in ("pg_dump", "pg_restore")):
        pytest.skip(
            f"no pg_dump and pg_restore in {binaries}: install PostgreSQL's client programs, or "
            "name those of a server that has them with MUNIMENT_TEST_POSTGRES_BIN"
        )
    return binaries


@pytest.fixture
def other_cluster() -> Iterator[PostgresServer]:
    """A fresh cluster, with the roles that a dump of one database leaves out."""
    with PostgresServer(autovacuum="off") as server:
        roles = ("writer", "reader", "keeper", "sequencer", "service")
        server.psql("".join(f"CREATE ROLE muniment_{role};" for role in roles))
        yield server


def _run(program: Path, *arguments: str) -> None:
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


async def _age(url: str, transactions: int) -> None:
    """Use up transaction ids, as time does."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "DO $$ BEGIN FOR n IN 1.." + str(transactions) + " LOOP "
        "PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    )
    await connection.close()


async def test_a_restored_trail_goes_on(
    private_postgres: PostgresServer, other_cluster: PostgresServer, programs: Path, tmp_path: Path
) -> None:
    """Each event has one leaf: what had one, what had none yet, and what is recorded afterwards.

    New events come with lower transaction ids than the old ones, and behind them all.
    """
    old_url = private_postgres.url(private_postgres.create_database())
    await _age(old_url, 3000)
    store = open_store(old_url, migrate=True)
    await store.open()
    await store.append([sealed(n, tenant_id=_TENANTS[n % 2]) for n in range(700)])
    await store.trees.integrate(500, grow)
    await store.append([sealed(n, tenant_id=_TENANTS[n % 2]) for n in range(50)])
    had = {tenant: await leaves_of(store, tenant) for tenant in _TENANTS}
    recorded = {tenant: await in_order(store, tenant) for tenant in _TENANTS}
    await store.close()

    dump = str(tmp_path / "dump")
    _run(programs / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={old_url}")
    url = other_cluster.url(other_cluster.create_database())
    _run(programs / "pg_restore", "--exit-on-error", f"--dbname={url}", dump)

    store = open_store(url)
    with pytest.raises(SchemaMismatch, match="new epoch"):
        await store.open()
    await store.upgrade()
    await store.open()
    assert {tenant: await leaves_of(store, tenant) for tenant in _TENANTS} == had
    await store.append([sealed(n, tenant_id=_TENANTS[n % 2]) for n in range(300)])
    assert await integrate_all(store, 70) == 200 + 50 + 300
    for tenant in _TENANTS:
        leaves = await leaves_of(store, tenant)
        assert leaves == await in_order(store, tenant)
        assert leaves[: len(recorded[tenant])] == recorded[tenant]
        assert await store.trees.leaf_index(tenant, leaves[-1][0]) == len(leaves) - 1
        assert await store.trees.leaf_index(tenant, leaves[300][0]) == 300
    assert (await store.trees.lag()).seconds == 0
    await store.close()


async def test_a_dump_taken_while_a_transaction_is_open(
    private_postgres: PostgresServer, other_cluster: PostgresServer, programs: Path, tmp_path: Path
) -> None:
    """What waited for it in the old cluster waits for nothing in the new one."""
    old_url = private_postgres.url(private_postgres.create_database())
    store = open_store(old_url, migrate=True)
    await store.open()
    await store.append([sealed(1)])
    await integrate_all(store)
    open_one = await asyncpg.connect(old_url)
    transaction = open_one.transaction()
    await transaction.start()
    await store.append_in(open_one, sealed(2))
    await store.append([sealed(3)])
    assert await integrate_all(store) == 0
    dump = str(tmp_path / "dump")
    _run(programs / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={old_url}")
    await transaction.commit()
    await open_one.close()
    await store.close()

    url = other_cluster.url(other_cluster.create_database())
    _run(programs / "pg_restore", "--exit-on-error", f"--dbname={url}", dump)
    store = open_store(url, migrate=True)
    await store.open()
    assert await integrate_all(store) == 1
    leaves = await leaves_of(store, "acme")
    assert (len(leaves), leaves) == (2, await in_order(store, "acme"))
    await store.close()
