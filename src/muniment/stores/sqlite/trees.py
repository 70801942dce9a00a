"""The trees of a SQLite store. What a pass integrates is read and hashed beside the writer."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from msgspec import structs

from muniment.errors import StoreError, VerificationError
from muniment.merkle import Frontier
from muniment.stores.sqlite.append import blob, transaction
from muniment.stores.sqlite.growths import store_growths
from muniment.stores.sqlite.insertions import insert, selections, update
from muniment.stores.trees import (
    BUNDLE_WIDTH,
    ID_BYTES,
    Bundle,
    Grow,
    Growth,
    Inspected,
    Lag,
    PendingEvent,
    Published,
    RowCounts,
    Tree,
    Trees,
)
from muniment.tiles import Tile, hashes_in

_T = TypeVar("_T")
_TREE: Final = "SELECT tenant_id, tree_size, edge, published_size FROM muniment_trees"
_CHECKPOINT: Final = """
    SELECT c.tenant_id, c.tree_size, c.root_hash, c.note, (
        SELECT coalesce(max(tree_size), 0) FROM muniment_checkpoints
        WHERE tenant_id = c.tenant_id AND tree_size < c.tree_size)
    FROM muniment_checkpoints c
"""
# As bytes, here and below: what somebody else has put there need not be text.
_PENDING: Final = """
    SELECT seq, CAST(tenant_id AS BLOB), event_id, leaf_hash, typeof(tenant_id) = 'text'
    FROM muniment_events WHERE seq > ? ORDER BY seq LIMIT ?
"""
_OLDEST_PENDING: Final = """
    SELECT CAST(CASE WHEN json_valid(body) THEN json_extract(body, '$.recorded_at') END AS BLOB),
           event_id
    FROM muniment_events WHERE seq > (SELECT seq FROM muniment_sequencer_state) ORDER BY seq LIMIT 1
"""
# Of what was taken as one read, so that another process's pass in between is noticed.
_ADVANCE: Final = "UPDATE muniment_sequencer_state SET seq = ? WHERE seq = ?"
_BUNDLE_OF: Final = """
    SELECT bundle_index, event_ids FROM muniment_bundles
    WHERE tenant_id = ? AND first_seq <= (SELECT seq FROM muniment_events
                                          WHERE tenant_id = ? AND event_id = ?)
    ORDER BY first_seq DESC LIMIT 1
"""
_INSPECT: Final = """
    SELECT seq, CAST(tenant_id AS BLOB), CAST(event_id AS BLOB), CAST(leaf_hash AS BLOB),
           CAST(terms AS BLOB), CAST(body AS BLOB), typeof(tenant_id) = 'text'
    FROM muniment_events
"""


class Runner(Protocol):
    """Runs work with a connection, in one of the store's threads."""

    def __call__(self, work: Callable[[sqlite3.Connection], _T], /) -> Awaitable[_T]:
        """What the work gives."""


class SqliteTrees(Trees):
    """Trees beside the events of one file. `read` and `write` are the store's."""

    def __init__(self, path: Path, *, read: Runner, write: Runner) -> None:
        self._lock_file = path.with_name(f"{path.name}-sequencer")
        self._read = read
        self._write = write

    # --- the sequencer's side

    async def why_not(self) -> str | None:
        return None

    async def integrate(self, limit: int, grow: Grow) -> int:
        def prepare(connection: sqlite3.Connection) -> tuple[int, int, int, list[Growth]]:
            with _snapshot(connection):
                (start,) = connection.execute("SELECT seq FROM muniment_sequencer_state").fetchone()
                rows = connection.execute(_PENDING, (start, limit)).fetchall()
                events = [
                    PendingEvent(str(seq), _tenant(tenant_id, is_text), event_id, leaf_hash)
                    for seq, tenant_id, event_id, leaf_hash, is_text in rows
                ]
                known = _trees_of(connection, {event.tenant_id for event in events})
            growths = list(grow(events, known)) if events else []
            return len(rows), start, rows[-1][0] if rows else start, growths

        with _elected(self._lock_file) as is_elected:
            if not is_elected:
                return 0
            count, start, reached, growths = await self._read(prepare)
            if not count:
                return 0

            def store(connection: sqlite3.Connection) -> bool:
                with transaction(connection):
                    if not connection.execute(_ADVANCE, (reached, start)).rowcount:
                        return False
                    store_growths(connection, growths)
                return True

            return count if await self._write(store) else 0

    async def unpublished(self, limit: int) -> list[Tree]:
        sql = f"{_TREE} WHERE tree_size > published_size ORDER BY tenant_id LIMIT ?"
        return [_tree(row) for row in await self._rows(sql, limit)]

    async def publish(self, checkpoints: Sequence[Published]) -> list[str]:
        def run(connection: sqlite3.Connection) -> list[str]:
            kept: list[Published] = []
            refused: list[Published] = []
            with transaction(connection):
                known = _trees_of(connection, {each.tenant_id for each in checkpoints})
                for each in checkpoints:
                    tree = known.get(each.tenant_id)
                    if tree is None or not _may_follow(tree, each):
                        refused.append(each)
                        continue
                    kept.append(each)
                    known[each.tenant_id] = structs.replace(tree, published_size=each.tree_size)
                update(
                    connection,
                    "UPDATE muniment_trees AS t SET published_size = g.column2",
                    "t.tenant_id = g.column1",
                    list({e.tenant_id: (e.tenant_id, e.tree_size) for e in kept}.values()),
                )
                columns = "(tenant_id, tree_size, root_hash, note)"
                rows = [(e.tenant_id, e.tree_size, e.root_hash, e.note) for e in kept]
                insert(connection, f"INSERT INTO muniment_checkpoints {columns}", rows)
            return [each.tenant_id for each in refused]

        return await self._write(run)

    async def unanchored(self, limit: int) -> list[Published]:
        sql = f"""
            {_CHECKPOINT} JOIN muniment_trees t
                ON c.tenant_id = t.tenant_id AND c.tree_size = t.published_size
            WHERE t.published_size > t.anchored_size ORDER BY t.tenant_id LIMIT ?
        """
        return [_published(row) for row in await self._rows(sql, limit)]

    async def mark_anchored(self, checkpoints: Iterable[tuple[str, int]]) -> None:
        sql = """
            UPDATE muniment_trees SET anchored_size = ?
            WHERE tenant_id = ? AND anchored_size < ? AND published_size >= ?
        """

        def run(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                for tenant_id, size in checkpoints:
                    connection.execute(sql, (size, tenant_id, size, size))

        await self._write(run)

    async def add_signatures(self, tenant_id: str, tree_size: int, lines: str) -> None:
        sql = """
            UPDATE muniment_checkpoints SET note = note || ?
            WHERE tenant_id = ? AND tree_size = ? AND instr(note, char(10) || ?) = 0
        """

        def run(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                for line in filter(None, lines.split("\n")):
                    values = (f"{line}\n", tenant_id, tree_size, f"{line}\n")
                    connection.execute(sql, values)

        await self._write(run)

    async def lag(self) -> Lag:
        rows = await self._rows(_OLDEST_PENDING)
        if not rows:
            return Lag()
        recorded_at, event_id = rows[0]
        try:
            then = datetime.fromisoformat((recorded_at or b"").decode()).timestamp()
        except ValueError:  # its body was erased, or altered
            then = int.from_bytes(event_id[:6], "big") / 1000
        return Lag(seconds=max(0.0, time.time() - then))

    # --- everybody's side

    async def tree(self, tenant_id: str) -> Tree | None:
        rows = await self._rows(f"{_TREE} WHERE tenant_id = ?", tenant_id)
        return _tree(rows[0]) if rows else None

    async def trees(self, after: str | None, limit: int) -> list[Tree]:
        sql = f"{_TREE} WHERE tenant_id > ? ORDER BY tenant_id LIMIT ?"
        return [_tree(row) for row in await self._rows(sql, after or "", limit)]

    async def tiles(self, tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        def run(connection: sqlite3.Connection) -> dict[Tile, bytes]:
            found: dict[Tile, bytes] = {}
            for select, values in selections(connection, list(wanted)):
                rows = connection.execute(
                    f"SELECT level, tile_index, hashes FROM ({select}) AS wanted "
                    "CROSS JOIN muniment_tiles ON tenant_id = ? AND level = wanted.column1 "
                    "AND tile_index = wanted.column2",
                    [*values, tenant_id],
                )
                found.update(((level, index), hashes) for level, index, hashes in rows)
            return found

        return await self._read(run)

    async def bundles(self, tenant_id: str, first: int, count: int) -> list[Bundle]:
        sql = """
            SELECT bundle_index, first_seq, event_ids FROM muniment_bundles
            WHERE tenant_id = ? AND bundle_index BETWEEN ? AND ? ORDER BY bundle_index
        """
        rows = await self._rows(sql, tenant_id, first, first + count - 1)
        return [
            Bundle(index=index, first_position=str(seq), event_ids=ids) for index, seq, ids in rows
        ]

    async def row_counts(self, tenant_id: str) -> RowCounts:
        counted = ", ".join(
            f"(SELECT count(*) FROM muniment_{table} WHERE tenant_id = ?1)"
            for table in ("tiles", "bundles", "checkpoints")
        )
        ((tiles, bundles, checkpoints),) = await self._rows(f"SELECT {counted}", tenant_id)
        return RowCounts(tiles=tiles, bundles=bundles, checkpoints=checkpoints)

    async def leaf_index(self, tenant_id: str, event_id: str) -> int | None:
        wanted = blob(event_id)
        for index, event_ids in await self._rows(_BUNDLE_OF, tenant_id, tenant_id, wanted):
            for place in range(0, len(event_ids), ID_BYTES):
                if event_ids[place : place + ID_BYTES] == wanted:
                    return int(index) * BUNDLE_WIDTH + place // ID_BYTES
        return None

    async def checkpoint(self, tenant_id: str, tree_size: int | None = None) -> Published | None:
        sql = f"""
            {_CHECKPOINT} WHERE c.tenant_id = ?1 AND c.tree_size = coalesce(?2, (
                SELECT max(tree_size) FROM muniment_checkpoints WHERE tenant_id = ?1))
        """
        rows = await self._rows(sql, tenant_id, tree_size)
        return _published(rows[0]) if rows else None

    async def checkpoints(self, tenant_id: str, after: int, limit: int) -> list[Published]:
        sql = f"{_CHECKPOINT} WHERE c.tenant_id = ? AND c.tree_size > ? ORDER BY 2 LIMIT ?"
        return [_published(row) for row in await self._rows(sql, tenant_id, after, limit)]

    async def integrated_to(self) -> str | None:
        ((seq,),) = await self._rows("SELECT seq FROM muniment_sequencer_state")
        return str(seq) if seq else None

    async def inspect(
        self, after: str | None, until: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Inspected]:
        # The + keeps to the order of seq.
        bounds = {
            "seq > CAST(? AS INTEGER)": after,
            "seq <= CAST(? AS INTEGER)": until,
            "+tenant_id = ?": tenant_id,
        }
        given = {bound: value for bound, value in bounds.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        sql = f"{_INSPECT} {where} ORDER BY seq LIMIT ?"
        return [_inspected(row) for row in await self._rows(sql, *given.values(), limit)]

    async def _rows(self, sql: str, *values: Any) -> list[Any]:
        return await self._read(lambda connection: connection.execute(sql, values).fetchall())


@contextmanager
def _elected(lock_file: Path) -> Iterator[bool]:
    """Whether this is the one that sequences now. The lock lies beside the database.

    It only saves work: what a pass may store is decided by the compare-and-swap of its transaction.
    """
    try:
        file = lock_file.open("ab")
    except OSError as error:
        raise StoreError(f"{lock_file}: {error.strerror or error}") from error
    with file:
        try:
            # One of the process, not of the open file: a child that is forked does not inherit it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # some errors end it themselves
            connection.execute("ROLLBACK")


def _may_follow(tree: Tree, checkpoint: Published) -> bool:
    """Whether a checkpoint is of this tree, and comes next behind the newest one."""
    if checkpoint.previous_size != tree.published_size:
        return False
    if checkpoint.tree_size == tree.tree_size:
        try:
            root_hash = Frontier(tree.tree_size, hashes_in(tree.edge)).root()
        except VerificationError:
            return False
        if checkpoint.root_hash != root_hash:
            return False
    return tree.published_size < checkpoint.tree_size <= tree.tree_size


def _trees_of(connection: sqlite3.Connection, tenants: Collection[str]) -> dict[str, Tree]:
    found: dict[str, Tree] = {}
    for select, values in selections(connection, [(tenant,) for tenant in tenants]):
        for row in connection.execute(f"{_TREE} WHERE tenant_id IN ({select})", values):
            found[row[0]] = _tree(row)
    return found


def _tree(row: Sequence[Any]) -> Tree:
    return Tree(tenant_id=row[0], tree_size=row[1], edge=row[2], published_size=row[3])


def _published(row: Sequence[Any]) -> Published:
    return Published(
        tenant_id=row[0], tree_size=row[1], root_hash=row[2], note=row[3], previous_size=row[4]
    )


def _tenant(stored: bytes, is_text: int) -> str:
    """Whose an event is. What is no text in UTF-8 is some other tenant's, and gets its leaf too.

    No search for a text finds bytes that look like it.
    """
    return stored.decode(errors="replace") if is_text else repr(stored)


def _inspected(row: Sequence[Any]) -> Inspected:
    return Inspected(
        position=str(row[0]),
        tenant_id=_tenant(row[1], row[6]),
        event_id=row[2],
        leaf_hash=row[3],
        terms=row[4],
        body=row[5],
    )
