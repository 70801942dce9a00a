"""What nobody may do to trees in SQLite, asked by hand through a plain `sqlite3` connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muniment.stores import open_store
from muniment.testing.contract import sealed
from muniment.testing.trees_contract import integrate_all, published

_TABLES = ("trees", "tiles", "bundles", "checkpoints", "sequencer_state")
_REWRITES = {
    "a shorter tile": "UPDATE muniment_tiles SET hashes = substr(hashes, 1, 32)",
    "another hash": "UPDATE muniment_tiles SET hashes = zeroblob(length(hashes))",
    "a tile elsewhere": "UPDATE muniment_tiles SET tile_index = 7",
    "another tenant's tile": "UPDATE muniment_tiles SET tenant_id = tenant_id || 'x'",
    "a shorter bundle": "UPDATE muniment_bundles SET event_ids = substr(event_ids, 1, 16)",
    "another event": "UPDATE muniment_bundles SET event_ids = zeroblob(length(event_ids))",
    "another first event": "UPDATE muniment_bundles SET first_seq = first_seq - 1",
    "another root": "UPDATE muniment_checkpoints SET root_hash = zeroblob(32)",
    "a larger checkpoint": "UPDATE muniment_checkpoints SET tree_size = tree_size + 1",
    "another note": "UPDATE muniment_checkpoints SET note = 'forged'",
    "a shorter note": "UPDATE muniment_checkpoints SET note = substr(note, 1, 3)",
    "another time": "UPDATE muniment_checkpoints SET published_at = '2020-01-01'",
    "a smaller tree": "UPDATE muniment_trees SET tree_size = 1, edge = substr(edge, 1, 32), "
    "published_size = 1, anchored_size = 0",
    "another edge": "UPDATE muniment_trees SET edge = zeroblob(length(edge))",
    "published less": "UPDATE muniment_trees SET published_size = published_size - 1",
    "anchored less": "UPDATE muniment_trees SET anchored_size = 0",
    "back to the beginning": "UPDATE muniment_sequencer_state SET seq = 0",
    "another state": 'UPDATE muniment_sequencer_state SET "only" = 2',
    "a second state": "INSERT INTO muniment_sequencer_state VALUES (2, 0)",
    "a replaced state": "REPLACE INTO muniment_sequencer_state VALUES (1, 0)",
    "an upserted state": "INSERT INTO muniment_sequencer_state VALUES (1, 0) "
    'ON CONFLICT ("only") DO UPDATE SET seq = 0',
    **{
        f"replaced {table}": f"REPLACE INTO muniment_{table} SELECT * FROM muniment_{table}"
        for table in _TABLES
    },
    **{f"no more {table}": f"DELETE FROM muniment_{table}" for table in _TABLES},
}


@pytest.fixture
def connection(sqlite_url: str, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to a database with a tree of three leaves, published and anchored."""

    async def make() -> None:
        store = open_store(sqlite_url)
        await store.open()
        await store.append([sealed(n) for n in range(3)])
        await integrate_all(store)
        await published(store)
        await store.trees.mark_anchored([("acme", 3)])
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(tmp_path / "audit.db", isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize("change", _REWRITES)
def test_what_is_in_a_tree_stays(connection: sqlite3.Connection, change: str) -> None:
    """Nobody rewrites it or takes it away; nor is the sequencer set back."""
    before = "\n".join(connection.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        connection.execute(_REWRITES[change])
    assert "\n".join(connection.iterdump()) == before


def test_what_is_in_a_tree_grows(connection: sqlite3.Connection) -> None:
    """At its end tiles, bundles and notes may gain; a larger tree has another edge."""
    for change in (
        "UPDATE muniment_tiles SET hashes = CAST(hashes || zeroblob(32) AS BLOB)",
        "UPDATE muniment_bundles SET event_ids = CAST(event_ids || zeroblob(16) AS BLOB)",
        "UPDATE muniment_checkpoints SET note = note || 'cosigned'",
        "UPDATE muniment_trees SET tree_size = 4, edge = zeroblob(32)",
        "UPDATE muniment_sequencer_state SET seq = seq + 1",
    ):
        assert connection.execute(change).rowcount == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE muniment_trees SET published_size = tree_size + 1",
        "UPDATE muniment_trees SET anchored_size = published_size + 1",
        "UPDATE muniment_trees SET tree_size = tree_size + 1",
        "UPDATE muniment_trees SET tree_size = 4, edge = zeroblob(31)",
        "UPDATE muniment_trees SET tree_size = 9223372036854775807, edge = zeroblob(62 * 32)",
        "UPDATE muniment_tiles SET hashes = CAST(hashes || X'00' AS BLOB)",
        "UPDATE muniment_bundles SET event_ids = CAST(event_ids || zeroblob(4096) AS BLOB)",
        "INSERT INTO muniment_trees (tenant_id, tree_size, edge) VALUES ('x', 1, zeroblob(64))",
        "INSERT INTO muniment_checkpoints VALUES ('acme', 9, X'00', 'n', '2026-01-01')",
    ],
)
def test_what_can_not_be_is_refused(connection: sqlite3.Connection, change: str) -> None:
    """Whoever asks: sizes, and what they are sizes of, fit together."""
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        connection.execute(change)


# --- whose events are


_INSERT = "INSERT INTO muniment_events (tenant_id, event_id, leaf_hash, terms, body) "


@pytest.mark.parametrize("tenant_id", ["X'61636D65'", "CAST(X'FF' AS TEXT)", "'acme' || char(0)"])
def test_a_tenant_id_that_is_no_text_is_refused(
    connection: sqlite3.Connection, tenant_id: str
) -> None:
    """Neither bytes nor what is not UTF-8, so that whoever reads events can read whose they are."""
    with pytest.raises(sqlite3.IntegrityError, match="tenant_id must be text"):
        connection.execute(f"{_INSERT} SELECT {tenant_id}, zeroblob(16), zeroblob(32), '', '{{}}'")


@pytest.fixture(scope="module")
def trigger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """An empty database, to which events are added in one transaction that never ends."""
    path = tmp_path_factory.mktemp("tenants") / "audit.db"

    async def make() -> None:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as connection:
        yield connection


_PIECES = st.one_of(
    st.text(min_size=1, max_size=4).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from("\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\ufffe\uffff\U00010000\U0010ffff").map(
        str.encode
    ),
    st.binary(min_size=1, max_size=4),
)


@given(st.lists(_PIECES, min_size=1, max_size=6).map(b"".join))
@example(b"\xc1\xbf")
@example(b"\xed\xa0\x80")
@example(b"\xf4\x90\x80\x80")
@example(b"\x80")
@example(b"acme\x00\xff")
@example("\uffff\ufffe".encode())
def test_any_utf_8_is_a_tenant_id_and_nothing_else(
    trigger: sqlite3.Connection, tenant_id: bytes
) -> None:
    """What Python decodes is taken, but for NUL."""
    try:
        is_text = "\0" not in tenant_id.decode()
    except UnicodeDecodeError:
        is_text = False
    values = "SELECT CAST(? AS TEXT), randomblob(16), zeroblob(32), '', '{}'"
    try:
        trigger.execute(f"{_INSERT} {values}", (tenant_id,))
    except sqlite3.IntegrityError:
        assert not is_text
    else:
        assert is_text
