"""What PostgreSQL adds to counts: rights, open transactions, restored databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from muniment import AuditLog
from muniment.errors import StoreError
from muniment.stores import open_store
from muniment.stores.base import Sealed, Store
from muniment.stores.counts import DAY
from muniment.testing.contract import sealed
from muniment.testing.counts_contract import cells, count_all
from tests.servers.postgres import Postgres
from tests.stores.secured import OLD, Secured, secured

_ROLES = ("acme_writer", "acme_reader", "all_reader", "keeper", "installer")
_CHANGES = (
    "INSERT INTO muniment.cells VALUES ('acme', 3600000, 0, 'login', 'success', 1)",
    "UPDATE muniment.cells SET events = 1",
    "DELETE FROM muniment.cells",
    "TRUNCATE muniment.cells",
    "UPDATE muniment.counts_state SET epoch = 0",
    "SELECT * FROM muniment.counts_state FOR UPDATE",
)


async def _count(url: str) -> None:
    store = open_store(url)
    await store.open()
    await count_all(store, at_once=100)
    await store.close()


@pytest.fixture(scope="module")
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database whose events are counted, and that no test of this module changes."""
    with secured(postgres_server) as place:
        asyncio.run(_count(place.url()))
        yield place


@pytest.fixture
def own_place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database that the test may change, in which the log has counted or not."""
    with secured(postgres_server) as place:
        yield place


@pytest.fixture
async def store(postgres_log_url: str) -> AsyncIterator[Store]:
    """An open store."""
    store = open_store(postgres_log_url)
    await store.open()
    yield store
    await store.close()


# --- seeing


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("acme_reader", ["acme"]),
        ("acme_writer", ["acme"]),
        ("unbound_writer", []),
        ("all_reader", ["", "acme", "globex"]),
        ("keeper", ["", "acme", "globex"]),
        ("installer", ["", "acme", "globex"]),
    ],
)
def test_a_role_sees_the_counts_of_its_tenants(place: Secured, who: str, seen: list[str]) -> None:
    """And those of all tenants together only if it sees all."""
    query = "SELECT DISTINCT tenant_id FROM muniment.cells ORDER BY 1"
    assert place.answer(query, getattr(place, who)) == seen


@pytest.mark.parametrize("change", _CHANGES)
def test_nobody_writes_counts_by_hand(place: Secured, change: str) -> None:
    """They are written by functions only."""
    for who in ("acme_writer", "acme_reader", "all_reader", "keeper"):
        assert "permission denied" in place.run(change, getattr(place, who)).stderr


@pytest.mark.parametrize(
    ("who", "events"), [("acme_reader", 4), ("acme_writer", 4), ("all_reader", 8), ("installer", 8)]
)
async def test_all_are_those_that_a_role_sees(place: Secured, who: str, events: int) -> None:
    """Without a tenant, a bound role counts its own tenant's events, and no other's."""
    async with AuditLog.open(place.url(getattr(place, who)), sequence=False) as log:
        counted = await log.count(since=OLD)
        assert (counted.events, counted.exact) == (events, True)


async def test_a_bound_role_counts_nothing_of_another_tenant(place: Secured) -> None:
    """No total, bar or facet tells of it."""
    async with AuditLog.open(place.url(place.acme_reader), sequence=False) as log:
        counted = await log.count(tenant_id="globex", since=OLD)
        everything = await log.count(since=OLD)
    assert counted.events == 0
    assert not any(bar.outcomes for bar in counted.bars)
    assert not any(facet.values for facet in counted.facets.values())
    assert "globex" not in str(everything)


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        ("acme_reader", ["acme"]),
        ("unbound_writer", []),
        ("all_reader", ["acme", "globex"]),
        ("installer", ["acme", "globex"]),
    ],
)
async def test_a_role_counts_by_the_tenants_that_it_sees(
    place: Secured, who: str, seen: list[str]
) -> None:
    """Others are neither counted nor listed."""
    store = open_store(place.url(getattr(place, who)))
    await store.open()
    found = await store.counts.by_tenant(0, 2**45 // DAY * DAY, DAY)
    listed = await store.counts.tenants(9)
    await store.close()
    assert sorted({cell.tenant_id for cell in found}) == seen
    assert listed == seen


async def test_what_is_not_counted_yet_is_as_secret(own_place: Secured) -> None:
    """Events behind the counts are added as far as a role sees them."""
    store = open_store(own_place.url(own_place.installer))
    await store.open()
    await store.counts.forget()
    await store.close()
    async with AuditLog.open(own_place.url(own_place.acme_reader), sequence=False) as log:
        assert (await log.count(since=OLD)).events == 4
        assert (await log.count(since=OLD, tenant_id="globex")).events == 0


# --- counting


async def test_a_bound_writer_counts_for_everybody(own_place: Secured) -> None:
    """Whichever process comes first counts all tenants' events."""
    await _count(own_place.url(own_place.acme_writer))
    query = "SELECT tenant_id, sum(events) FROM muniment.cells GROUP BY 1, width ORDER BY 1"
    assert own_place.answer(query) == ["|8", "|8", "acme|4", "acme|4", "globex|4", "globex|4"]


@pytest.mark.parametrize("who", ["acme_reader", "all_reader", "unbound_writer", "sequencer"])
async def test_counts_are_thrown_away_by_the_keeper_only(place: Secured, who: str) -> None:
    """Who records or reads can not make everybody's counts slow."""
    done = place.run("SELECT muniment.forget_counts()", getattr(place, who))
    assert "permission denied" in done.stderr


@pytest.mark.parametrize("who", ["keeper", "installer"])
async def test_who_keeps_a_database_makes_the_counts_again(own_place: Secured, who: str) -> None:
    """Its keeper, or who installed the schema."""
    store = open_store(own_place.url(getattr(own_place, who)))
    await store.open()
    await count_all(store)
    await store.counts.forget()
    counted = await count_all(store)
    await store.close()
    assert counted == 8


async def test_a_writer_that_may_not_forget_is_told(place: Secured) -> None:
    """By an error of ours."""
    store = open_store(place.url(place.acme_writer))
    await store.open()
    with pytest.raises(StoreError, match="permission denied"):
        await store.counts.forget()
    await store.close()


async def test_no_event_is_passed_by_that_is_still_to_be_seen(
    store: Store, postgres_log_url: str
) -> None:
    """One in a transaction that is open while later ones are counted is counted once it commits."""
    late, *others = (sealed(n, outcome="success") for n in range(4))
    connection = await asyncpg.connect(postgres_log_url)
    transaction = connection.transaction()
    await transaction.start()
    await store.append_in(connection, late)
    await store.append(others)
    before = await count_all(store), await cells(store)
    await transaction.commit()
    between = await cells(store)
    after = await count_all(store), await cells(store)
    await connection.close()
    key = (0, "login", "success")
    assert before == (0, {key: 3})
    assert between == {key: 4}
    assert after == (4, {key: 4})


async def test_a_counter_that_stands_still_holds_nobody_up(
    store: Store, postgres_log_url: str
) -> None:
    """Another one finds nothing to do, and counts are whole meanwhile."""
    await store.append([sealed(n) for n in range(5)])
    connection = await asyncpg.connect(postgres_log_url)
    transaction = connection.transaction()
    await transaction.start()
    assert await connection.fetchval("SELECT muniment.count_pending(3)") == 5
    assert await store.counts.count_pending(3) == 0
    assert sum((await cells(store)).values()) == 5
    await transaction.rollback()
    await connection.close()
    assert await count_all(store) == 5
    assert sum((await cells(store)).values()) == 5


async def test_a_restored_database_is_counted_anew(postgres_log_url: str) -> None:
    """Its state is of another cluster's transactions: adopting it makes the counts again."""
    store = open_store(postgres_log_url)
    await store.open()
    before: list[Sealed] = [sealed(n) for n in range(5)]
    await store.append(before)
    await count_all(store)
    await store.close()
    connection = await asyncpg.connect(postgres_log_url)
    await connection.execute("UPDATE muniment.epochs SET system_identifier = 1")
    await connection.execute("UPDATE muniment.counts_state SET xid = '9000000000'")
    await connection.close()
    store = open_store(postgres_log_url)
    await store.upgrade()
    await store.open()
    await store.append([sealed(9)])
    seen = sum((await cells(store)).values())
    counted = await count_all(store)
    await store.close()
    assert (seen, counted) == (6, 6)
