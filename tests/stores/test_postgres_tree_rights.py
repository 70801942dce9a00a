"""Who may see and write trees in PostgreSQL; what nobody may do, asked by hand through psql."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from muniment.growing import frontier_of
from muniment.stores import open_store
from muniment.stores.trees import Published
from tests.servers.postgres import Postgres
from tests.stores.leaves import integrate_all
from tests.stores.secured import Secured, secured

_SECURED_TABLES = ("trees", "tiles", "bundles", "checkpoints")
_TABLES = (*_SECURED_TABLES, "sequencer_state")
_INSERTS = {
    "trees": "INSERT INTO muniment.trees VALUES ('acme2', 1, decode(repeat('00', 32), 'hex'))",
    "tiles": "INSERT INTO muniment.tiles VALUES ('acme', 1, 0, decode(repeat('00', 32), 'hex'))",
    "bundles": "INSERT INTO muniment.bundles VALUES ('acme', 1, 1, '3', 1, decode(repeat('00', "
    "16), 'hex'))",
    "checkpoints": "INSERT INTO muniment.checkpoints VALUES ('acme', 2, decode(repeat('00', 32), "
    "'hex'), 'forged')",
}
_REWRITES = {
    "a shorter tile": "UPDATE muniment.tiles SET hashes = substr(hashes, 1, 32)",
    "another hash": "UPDATE muniment.tiles SET hashes = set_byte(hashes, 0, 255 - "
    "get_byte(hashes, 0))",
    "a tile elsewhere": "UPDATE muniment.tiles SET tile_index = 7",
    "another tenant's tile": "UPDATE muniment.tiles SET tenant_id = tenant_id || 'x'",
    "a shorter bundle": "UPDATE muniment.bundles SET event_ids = substr(event_ids, 1, 16)",
    "another event": "UPDATE muniment.bundles SET event_ids = set_byte(event_ids, 3, 255 - "
    "get_byte(event_ids, 3))",
    "another first event": "UPDATE muniment.bundles SET first_seq = first_seq - 1",
    "another root": "UPDATE muniment.checkpoints SET root_hash = decode(repeat('11', 32), 'hex')",
    "a larger checkpoint": "UPDATE muniment.checkpoints SET tree_size = tree_size + 1",
    "another note": "UPDATE muniment.checkpoints SET note = 'forged'",
    "a shorter note": "UPDATE muniment.checkpoints SET note = left(note, 3)",
    "another time": "UPDATE muniment.checkpoints SET published_at = now()",
    "a smaller tree": "UPDATE muniment.trees SET tree_size = 1, edge = substr(edge, 1, 32), "
    "published_size = 1, anchored_size = 0",
    "another edge": "UPDATE muniment.trees SET edge = decode(repeat('11', octet_length(edge)), "
    "'hex')",
    "published less": "UPDATE muniment.trees SET published_size = published_size - 1",
    "back to the beginning": "UPDATE muniment.sequencer_state SET epoch = 1, xid = '0', seq = 0",
    **{f"no more {table}": f"DELETE FROM muniment.{table}" for table in _TABLES},
    **{f"empty {table}": f"TRUNCATE muniment.{table}" for table in _TABLES},
}


async def _make_trees(url: str) -> None:
    """A tree for each tenant, under a checkpoint."""
    store = open_store(url)
    await store.open()
    await integrate_all(store)
    checkpoints = [
        Published(
            tenant_id=tree.tenant_id,
            tree_size=tree.tree_size,
            root_hash=frontier_of(tree).root(),
            note="signed\n",
        )
        for tree in await store.trees.unpublished(10)
    ]
    assert await store.trees.publish(checkpoints) == []
    await store.close()


async def _why_not(url: str) -> str | None:
    store = open_store(url)
    await store.open()
    try:
        return await store.trees.why_not()
    finally:
        await store.close()


@pytest.fixture(scope="module")
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database with the trees of two tenants, that no test of this module changes."""
    with secured(postgres_server) as place:
        asyncio.run(_make_trees(place.url(place.sequencer)))
        yield place


@pytest.fixture
def own_place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database that the test may change, in which nothing is sequenced yet."""
    with secured(postgres_server) as place:
        yield place


# --- seeing


@pytest.mark.parametrize("table", _SECURED_TABLES)
def test_a_bound_role_sees_its_tenants_tree_only(place: Secured, table: str) -> None:
    """Without any condition, a query gives the rows of the role's own tenant."""
    query = f"SELECT DISTINCT tenant_id FROM muniment.{table}"
    assert place.answer(query, place.acme_reader) == ["acme"]
    assert place.answer(query, place.acme_writer) == ["acme"]


@pytest.mark.parametrize("table", _SECURED_TABLES)
def test_a_role_without_a_binding_sees_no_tree(place: Secured, table: str) -> None:
    """Membership alone opens nothing."""
    seen = place.answer(f"SELECT count(*) FROM muniment.{table}", place.unbound_writer)
    assert seen == ["0"]


@pytest.mark.parametrize("table", _SECURED_TABLES)
def test_who_sees_all_tenants_sees_all_trees(place: Secured, table: str) -> None:
    """A reader bound to all, the keeper, and who sequences."""
    query = f"SELECT DISTINCT tenant_id FROM muniment.{table} ORDER BY 1"
    for role in (place.all_reader, place.keeper, place.sequencer, place.installer):
        assert place.answer(query, role) == ["acme", "globex"]


async def test_a_bound_reader_asks_the_store(place: Secured) -> None:
    """It gets its own tenant's tree, tiles, bundles and checkpoints, and none of another's."""
    store = open_store(place.url(place.acme_reader))
    await store.open()
    trees = store.trees
    seen = {}
    for tenant in ("acme", "globex"):
        counts = await trees.row_counts(tenant)
        seen[tenant] = (
            await trees.tree(tenant) is not None,
            len(await trees.tiles(tenant, [(0, 0)])),
            len(await trees.bundles(tenant, 0, 5)),
            await trees.checkpoint(tenant) is not None,
            (counts.tiles, counts.bundles, counts.checkpoints),
        )
    listed = [tree.tenant_id for tree in await trees.trees(None, 10)]
    await store.close()
    assert seen == {
        "acme": (True, 1, 1, True, (1, 1, 1)),
        "globex": (False, 0, 0, False, (0, 0, 0)),
    }
    assert listed == ["acme"]


_PENDING = "SELECT * FROM muniment.pending_events(1::smallint, '9999999', 100, 100)"
_EVENTS = "SELECT DISTINCT tenant_id FROM muniment.events WHERE body IS NOT NULL OR terms <> ''"


def test_who_sequences_need_not_read_what_happened(own_place: Secured) -> None:
    """It gets ids and leaf hashes of all tenants' pending events, and not one event."""
    done = own_place.run("SELECT tenant_id FROM muniment.events", own_place.sequencer)
    pending = own_place.answer(_PENDING, own_place.sequencer)
    assert "permission denied" in done.stderr
    assert sorted(line.split("|")[3] for line in pending) == 4 * ["acme"] + 4 * ["globex"]
    assert {len(line.split("|")) for line in pending} == {6}


def test_what_has_its_leaf_is_not_told_again(place: Secured) -> None:
    """The sequencer's function looks behind the state, whatever it is asked."""
    assert place.answer(_PENDING, place.sequencer) == []


@pytest.mark.parametrize("call", [_PENDING, "SELECT muniment.is_pending()"])
def test_what_is_pending_is_told_to_who_sequences(place: Secured, call: str) -> None:
    """To nobody else: it is of all tenants."""
    stranger = place.server.create_role()
    for role in (place.acme_writer, place.all_reader, place.keeper, stranger):
        assert "permission denied" in place.run(call, role).stderr
    place.server.drop_role(stranger)


@pytest.mark.parametrize("kind", ["writer", "reader"])
async def test_who_sequences_too_sees_no_other_tenants_events(
    own_place: Secured, kind: str
) -> None:
    """A role bound to acme sequences every tenant, and reads of events those of acme alone."""
    role = own_place.acme_writer if kind == "writer" else own_place.acme_reader
    own_place.answer(f"GRANT muniment_sequencer TO {role}")
    await _make_trees(own_place.url(role))
    assert await _why_not(own_place.url(role)) is None
    query = "SELECT tenant_id, published_size FROM muniment.trees ORDER BY 1"
    assert own_place.answer(query) == [
        "acme|4",
        "globex|4",
    ]
    for table in ("events", "postings", "actions"):
        query = f"SELECT DISTINCT tenant_id FROM muniment.{table}"
        assert own_place.answer(query, role) == ["acme"]
    assert own_place.answer(_EVENTS, role) == ["acme"]


# --- writing


@pytest.mark.parametrize("table", _INSERTS)
def test_writing_trees_is_no_right_of_a_writer(place: Secured, table: str) -> None:
    """Who records events, reads or keeps them puts nothing into a tree."""
    for role in (place.acme_writer, place.all_reader, place.keeper):
        assert "permission denied" in place.run(_INSERTS[table], role).stderr


@pytest.mark.parametrize("change", _REWRITES)
def test_what_is_in_a_tree_stays(place: Secured, change: str) -> None:
    """Nobody rewrites it or takes it away: no member of a role, no owner, no superuser."""
    sql = _REWRITES[change]
    roles = (place.acme_writer, place.all_reader, place.keeper, place.sequencer)
    for role in roles:
        refused = place.run(sql, role).stderr
        assert "permission denied" in refused or "only grows" in refused
    replica = f"SET session_replication_role = replica; {sql}"
    for done in (place.run(sql, place.installer), place.run(sql), place.run(replica)):
        assert "only grows" in done.stderr


def test_what_is_in_a_tree_grows(own_place: Secured) -> None:
    """At its end tiles, bundles and notes may gain."""
    asyncio.run(_make_trees(own_place.url(own_place.sequencer)))
    for change in (
        "UPDATE muniment.tiles SET hashes = hashes || decode(repeat('00', 32), 'hex')",
        "UPDATE muniment.bundles SET event_ids = event_ids || decode(repeat('00', 16), 'hex')",
        "UPDATE muniment.checkpoints SET note = note || 'cosigned'",
    ):
        own_place.answer(change, own_place.sequencer)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE muniment.trees SET published_size = tree_size + 1",
        "UPDATE muniment.trees SET anchored_size = published_size + 1",
        "UPDATE muniment.trees SET tree_size = tree_size + 1",
        "UPDATE muniment.tiles SET hashes = hashes || '\\x00'",
        "UPDATE muniment.bundles SET event_ids = event_ids || decode(repeat('00', 4096), 'hex')",
        "INSERT INTO muniment.checkpoints VALUES ('acme', 9, '\\x00', 'n')",
        "INSERT INTO muniment.sequencer_state VALUES (2, 1, '0', -1)",
    ],
)
def test_what_can_not_be_is_refused(place: Secured, change: str) -> None:
    """Invariants hold for the owner too."""
    assert "violates check constraint" in place.run(change, place.installer).stderr


# --- who sequences


async def test_a_role_that_may_only_sequence_does(own_place: Secured) -> None:
    """It opens the store, gives every tenant's events their leaves, and publishes."""
    await _make_trees(own_place.url(own_place.sequencer))
    query = "SELECT tenant_id, tree_size, published_size FROM muniment.trees ORDER BY 1"
    assert own_place.answer(query) == [
        "acme|4|4",
        "globex|4|4",
    ]


async def test_who_may_not_sequence_is_told_what_to_do(place: Secured) -> None:
    """The right to grant is named, and the role to grant it to."""
    for role in (place.acme_writer, place.all_reader, place.keeper):
        said = await _why_not(place.url(role))
        assert said is not None
        assert f"GRANT muniment_sequencer TO {role}" in said


async def test_who_may_sequence(place: Secured) -> None:
    """A member of the role, the schema's owner, a superuser."""
    for role in (place.sequencer, place.installer, None):
        assert await _why_not(place.url(role)) is None


@pytest.mark.parametrize("also", ["", "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA muniment TO {}"])
async def test_a_role_that_would_miss_tenants_may_not_sequence(
    own_place: Secured, also: str
) -> None:
    """The right to move the state is not enough: it must get every tenant's events and trees."""
    role = own_place.acme_writer
    own_place.answer(f"GRANT UPDATE ON muniment.sequencer_state TO {role}")
    own_place.answer(also.format(role))
    said = await _why_not(own_place.url(role))
    assert said is not None
    assert "GRANT muniment_sequencer" in said
