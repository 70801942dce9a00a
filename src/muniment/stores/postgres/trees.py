"""The trees of a PostgreSQL database. Whoever holds the one row of sequencer_state sequences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast
from uuid import UUID

import asyncpg

from muniment.errors import EventRefused, StoreError
from muniment.merkle import join_roots
from muniment.stores.postgres import trees_sql as sql
from muniment.stores.postgres.faults import translate
from muniment.stores.postgres.page import paging, roll_back
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

_BEFORE_ALL_OF_A_TRANSACTION: Final = -1
_OF_ONE_TRANSACTION: Final = 50_000
"""Events that a step may take beyond its limit, if they are the rest of one transaction."""
_Statement = tuple[str, list[Any]]
_Place = tuple[int, str]
"""(epoch, xid) of a transaction."""


class PostgresTrees(Trees):
    """Trees in the schema `muniment`. `connection` lends one of the store's, and says what failed.

    Every call is one transaction and leaves nothing in the session, so a pooler may stand between.
    """

    def __init__(self, connection: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._connection = connection
        # While it hashes it holds the state's row: the application may fill the loop's own threads.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="muniment-grow")

    # --- the sequencer's side

    async def why_not(self) -> str | None:
        ((may_sequence, role),) = await self._rows(sql.MAY_SEQUENCE)
        if may_sequence:
            return None
        return (
            f"the role {role} may not write trees: GRANT muniment_sequencer TO {role}, or run "
            "`muniment sequence` as a role that has it"
        )

    async def integrate(self, limit: int, grow: Grow) -> int:
        async with self._changing() as connection:
            if not await connection.fetchval(sql.IS_PENDING):
                return 0
            state = await connection.fetchrow(sql.ELECT)
            if state is None:
                return 0
            *stands, settled_epoch, settled_xid = state
            settled = (settled_epoch, settled_xid)
            many = max(limit, _OF_ONE_TRANSACTION)
            found = await connection.fetch(sql.PENDING, *settled, limit, many)
            rows, reached = _step(found, stands, settled, limit, many)
            tenants = list({row[3] for row in rows})
            trees = {row[0]: _tree(row) for row in await connection.fetch(sql.TREES_OF, tenants)}

            def prepare() -> list[_Statement]:
                pending = [
                    PendingEvent(f"{row[0]}.{row[1]}.{row[2]}", row[3], row[4], row[5])
                    for row in rows
                ]
                return _statements(grow(pending, trees)) if pending else []

            # Cancelled here, it goes on for nothing; nothing of it was written.
            loop = asyncio.get_running_loop()
            for statement, values in await loop.run_in_executor(self._thread, prepare):
                await connection.execute(statement, *values)
            last = f"{rows[-1][0]}.{rows[-1][1]}.{rows[-1][2]}" if rows else None
            await connection.execute(sql.ADVANCE, *reached, last)
        return len(rows)

    async def unpublished(self, limit: int) -> list[Tree]:
        return [_tree(row) for row in await self._rows(sql.UNPUBLISHED, limit)]

    async def publish(self, checkpoints: Sequence[Published]) -> list[str]:
        kept: list[Published] = []
        refused: list[str] = []
        async with self._changing() as connection:
            tenants = list({each.tenant_id for each in checkpoints})
            locked = await connection.fetch(sql.LOCK_TREES, tenants)
            trees = {row[0]: _tree(row) for row in locked}
            published = {tree.tenant_id: tree.published_size for tree in trees.values()}
            for each in checkpoints:
                tenant_id, size, previous = each.tenant_id, each.tree_size, each.previous_size
                if published.get(tenant_id) == previous < size and _is_of(each, trees[tenant_id]):
                    published[tenant_id] = size
                    kept.append(each)
                else:
                    refused.append(tenant_id)
            if kept:
                newest = {each.tenant_id: str(each.tree_size) for each in kept}
                await connection.execute(sql.SET_PUBLISHED, list(newest), list(newest.values()))
                await connection.execute(
                    sql.KEEP_CHECKPOINTS,
                    [each.tenant_id for each in kept],
                    [str(each.tree_size) for each in kept],
                    [each.root_hash.hex() for each in kept],
                    [each.note for each in kept],
                )
        return refused

    async def unanchored(self, limit: int) -> list[Published]:
        return [_published(row) for row in await self._rows(sql.UNANCHORED, limit)]

    async def mark_anchored(self, checkpoints: Iterable[tuple[str, int]]) -> None:
        largest: dict[str, int] = {}
        for tenant_id, size in checkpoints:
            largest[tenant_id] = max(size, largest.get(tenant_id, 0))
        tenants = list(largest)
        async with self._changing() as connection:
            await connection.fetch(sql.LOCK_TREES, tenants)
            await connection.execute(sql.SET_ANCHORED, tenants, list(map(str, largest.values())))

    async def add_signatures(self, tenant_id: str, tree_size: int, lines: str) -> None:
        async with self._changing() as connection:
            note = await connection.fetchval(sql.LOCK_NOTE, tenant_id, tree_size)
            if note is None:
                return
            there = set(note.split("\n"))
            # Once each, in their order. A line of a note may hold any other separator.
            given = dict.fromkeys(line for line in lines.split("\n") if line)
            added = "".join(f"{line}\n" for line in given if line not in there)
            if added:
                await connection.execute(sql.ADD_TO_NOTE, tenant_id, tree_size, added)

    async def lag(self) -> Lag:
        async with self._connection() as connection, paging(connection):
            seconds, waits_for = await connection.fetchrow(sql.LAG)
            rows = await connection.fetch(sql.CULPRITS, waits_for) if waits_for else []
        return Lag(seconds=seconds, culprits=tuple(filter(None, map(_culprit, rows))))

    # --- everybody's side

    async def tree(self, tenant_id: str) -> Tree | None:
        rows = await self._rows(sql.TREES_OF, [tenant_id])
        return _tree(rows[0]) if rows else None

    async def trees(self, after: str | None, limit: int) -> list[Tree]:
        return [_tree(row) for row in await self._rows(sql.ALL_TREES, after, limit)]

    async def tiles(self, tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        levels, indexes = [str(level) for level, _ in wanted], [str(index) for _, index in wanted]
        rows = await self._rows(sql.TILES, tenant_id, levels, indexes)
        return {(row[0], row[1]): row[2] for row in rows}

    async def bundles(self, tenant_id: str, first: int, count: int) -> list[Bundle]:
        rows = await self._rows(sql.BUNDLES, tenant_id, first, first + count)
        return [Bundle(index=row[0], first_position=row[1], event_ids=row[2]) for row in rows]

    async def row_counts(self, tenant_id: str) -> RowCounts:
        ((tiles, bundles, checkpoints),) = await self._rows(sql.ROW_COUNTS, tenant_id)
        return RowCounts(tiles=tiles, bundles=bundles, checkpoints=checkpoints)

    async def leaf_index(self, tenant_id: str, event_id: str) -> int | None:
        wanted = UUID(event_id).bytes
        for index, event_ids in await self._rows(sql.BUNDLE_OF, tenant_id, event_id):
            for place in range(0, len(event_ids), ID_BYTES):
                if event_ids[place : place + ID_BYTES] == wanted:
                    return cast("int", index) * BUNDLE_WIDTH + place // ID_BYTES
        return None

    async def checkpoint(self, tenant_id: str, tree_size: int | None = None) -> Published | None:
        if tree_size is None:
            rows = await self._rows(sql.NEWEST_CHECKPOINT, tenant_id)
        else:
            rows = await self._rows(sql.CHECKPOINT, tenant_id, tree_size)
        return _published(rows[0]) if rows else None

    async def checkpoints(self, tenant_id: str, after: int, limit: int) -> list[Published]:
        rows = await self._rows(sql.CHECKPOINTS_AFTER, tenant_id, after, limit)
        return [_published(row) for row in rows]

    async def integrated_to(self) -> str | None:
        ((position,),) = await self._rows(sql.INTEGRATED_TO)
        return cast("str | None", position)

    async def inspect(
        self, after: str | None, until: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Inspected]:
        given = [after, until]
        values = [part for each in given for part in (each.split(".") if each else (None,) * 3)]
        statement = sql.inspect(has_after=after is not None, has_until=until is not None)
        rows = await self._rows(statement, tenant_id, limit, *values)
        return [
            Inspected(
                position=f"{row[0]}.{row[1]}.{row[2]}",
                tenant_id=row[3],
                event_id=row[4],
                leaf_hash=row[5],
                terms=row[6],
                body=row[7],
                is_ahead=row[8],
            )
            for row in rows
        ]

    # --- transactions

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        async with self._connection() as connection, paging(connection):
            return cast("list[Any]", await connection.fetch(statement, *values))

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Any]:
        """A transaction that commits what is done in it, all or nothing."""
        async with self._connection() as connection:
            try:
                try:
                    await connection.execute(sql.BEGIN)
                    yield connection
                    await connection.execute("COMMIT")
                except BaseException:
                    await roll_back(connection)
                    raise
            except asyncpg.PostgresError as error:
                translated = translate(error)
                if isinstance(translated, EventRefused):  # it is no event that was refused
                    translated = StoreError(str(translated))
                raise translated from error


def _step(
    found: list[Any], stands: Sequence[Any], settled: _Place, limit: int, many: int
) -> tuple[list[Any], tuple[int, str, int]]:
    """Those of the pending events that are taken now, and where the state stands then.

    Of the transaction inside which it `stands` that is up to `many`, see `pending_events`.
    """
    epoch, xid, seq = stands
    if seq != _BEFORE_ALL_OF_A_TRANSACTION:
        limit = max(limit, min(many, sum((row[0], row[1]) == (epoch, xid) for row in found)))
    rows = found[:limit]
    if len(found) == len(rows):
        # All that will ever be below `settled` has its leaf now.
        return rows, (*settled, _BEFORE_ALL_OF_A_TRANSACTION)
    last, following = rows[-1], found[limit]
    if (following[0], following[1]) == (last[0], last[1]):
        return rows, (last[0], last[1], last[2])
    return rows, (following[0], following[1], _BEFORE_ALL_OF_A_TRANSACTION)


class _Blob:
    """Byte strings in one, each with where it starts, from 1, and how long it is."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.lengths: list[str] = []
        self._parts: list[bytes] = []
        self._end = 1

    def add(self, part: bytes) -> None:
        self.starts.append(str(self._end))
        self.lengths.append(str(len(part)))
        self._parts.append(part)
        self._end += len(part)

    def values(self) -> list[Any]:
        return [self.starts, self.lengths, b"".join(self._parts)]


def _statements(growths: Sequence[Growth]) -> list[_Statement]:
    """What stores growths. In one order of tenants everywhere, see `LOCK_TREES`."""
    trees: list[tuple[str, ...]] = []
    tiles: list[tuple[str, ...]] = []
    bundles: list[tuple[str, ...]] = []
    edges, hashes, event_ids = _Blob(), _Blob(), _Blob()
    for growth in sorted(growths, key=lambda growth: growth.tree.tenant_id.encode()):
        tree = growth.tree
        trees.append((tree.tenant_id, str(tree.tree_size)))
        edges.add(tree.edge)
        for (level, index), gained in growth.tiles.items():
            tiles.append((tree.tenant_id, str(level), str(index)))
            hashes.add(gained)
        for index, (position, ids) in growth.bundles.items():
            bundles.append((tree.tenant_id, str(index), *position.split(".")))
            event_ids.add(ids)
    return [
        (statement, [*map(list, zip(*rows, strict=True)), *blob.values()])
        for statement, rows, blob in (
            (sql.GROW_TREES, trees, edges),
            (sql.GROW_TILES, tiles, hashes),
            (sql.GROW_BUNDLES, bundles, event_ids),
        )
        if rows
    ]


def _tree(row: Any) -> Tree:
    return Tree(tenant_id=row[0], tree_size=row[1], edge=row[2], published_size=row[3])


def _is_of(checkpoint: Published, tree: Tree) -> bool:
    """Whether the tree is what it says. Of one that has grown since, only the size is known here.

    Between reading a tree and publishing it, a replica that lost the end of it may take over.
    """
    if checkpoint.tree_size != tree.tree_size:
        return checkpoint.tree_size < tree.tree_size
    return checkpoint.root_hash == join_roots(hashes_in(tree.edge))


def _published(row: Any) -> Published:
    return Published(
        tenant_id=row[0], tree_size=row[1], root_hash=row[2], note=row[3], previous_size=row[4]
    )


def _culprit(row: Any) -> str | None:
    """A transaction that is waited for, as who may end it looks for it; None if it has ended."""
    if row["pid"] is not None:
        what = f"pid {row['pid']}"
    elif row["gid"] is not None:
        what = f"prepared transaction '{row['gid']}'"
    else:
        return None
    known = [
        row["application_name"],
        row["state"],
        row["age"] is not None and f"begun {max(0.0, row['age']):.0f} s ago",
        row["database"] and f"database {row['database']}",
    ]
    return f"{what} ({', '.join(filter(None, known))})"
