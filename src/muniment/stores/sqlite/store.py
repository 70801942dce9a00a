"""The SQLite store: one file, one writer at a time, readers beside it (WAL, synchronous FULL).

All SQL runs in threads: one that writes, a few that read. Position in the order of recording is
`seq`, which is commit order, because SQLite lets in one writer at a time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import ColumnElement, func
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import ClauseElement

from muniment.errors import (
    EventRefused,
    SchemaMismatch,
    StoreError,
    StoreUnavailable,
    UnsafeStore,
)
from muniment.query import TERM_SEPARATOR
from muniment.stores.base import (
    Place,
    SchemaStatus,
    Sealed,
    Selection,
    Sequenced,
    Store,
    StoredEvent,
)
from muniment.stores.borrowed import driver_connection
from muniment.stores.counts import Facts
from muniment.stores.plan import reach_with, select_with
from muniment.stores.schema import EVERY_EVENT, SQLITE_PREFIX, SQLITE_REVISION
from muniment.stores.sqlite.append import STORED, append, append_one, blob, index, stored
from muniment.stores.sqlite.connections import Connections
from muniment.stores.sqlite.counts import SqliteCounts
from muniment.stores.sqlite.credentials import SqliteCredentials
from muniment.stores.sqlite.insertions import selections
from muniment.stores.sqlite.statements import FIND, FIND_FACTS
from muniment.stores.sqlite.trees import SqliteTrees

_READERS: Final = 3
_GET_ANY: Final = f"""
    SELECT tenant_id, event_id, leaf_hash, body FROM muniment_postings
    JOIN muniment_events USING (tenant_id, event_id) WHERE term = ? AND event_id = ?
    UNION ALL
    {STORED} WHERE seq >= (SELECT seq FROM muniment_index_state) AND event_id = ?
    LIMIT 1
"""
_VERSION_TABLE: Final = f"{SQLITE_PREFIX}schema_version"
_DIALECT: Final = SQLiteDialect_pysqlite(paramstyle="qmark")
_T = TypeVar("_T")


class SqliteStore(Store):
    """Events in a SQLite file; waits `busy_timeout` seconds for other writers."""

    index_step = 500  # recording waits while a step is done

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout: float = 5.0,
        allow_unsafe: bool = False,
        migrate: bool = True,
    ) -> None:
        self.url = f"sqlite:///{path}"
        self.path = path
        self._allow_unsafe = allow_unsafe
        self._migrate = migrate
        self._writer: ThreadPoolExecutor | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._doorman: ThreadPoolExecutor | None = None
        self._connections = Connections(path, busy_timeout=busy_timeout)
        self._is_prepared = False
        self.trees = SqliteTrees(path, read=self._read, write=self._write_prepared)
        self.credentials = SqliteCredentials(read=self._read_apart, write=self._write_prepared)
        self.counts = SqliteCounts(read=self._read, write=self._write_prepared)

    async def open(self) -> None:
        await self._write(self._prepare)

    async def close(self) -> None:
        pools = [p for p in (self._writer, self._readers, self._doorman) if p is not None]
        self._writer = self._readers = self._doorman = None
        for pool in pools:
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(self._connections.close)
        self._is_prepared = False

    # --- writing

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        return await self._write_prepared(lambda connection: append(connection, batch))

    async def append_in(self, connection: Any, event: Sealed) -> StoredEvent | None:
        raw = await driver_connection(connection, is_begun=lambda _: True)
        if not hasattr(raw, "execute_fetchall"):
            msg = (
                "connection: a log in SQLite needs an AsyncSession or AsyncConnection over "
                f"aiosqlite, not {type(connection).__name__}"
            )
            raise StoreError(msg)
        files = await raw.execute_fetchall("PRAGMA database_list")
        if not any(name == "main" and Path(file) == self.path.resolve() for _, name, file in files):
            msg = f"connection: it is not one to this log's database, {self.path}"
            raise StoreError(msg)
        # aiosqlite runs what it is given in the thread that owns the connection.
        return cast("StoredEvent | None", await raw._execute(append_one, raw._conn, event))  # noqa: SLF001

    async def index_pending(self, limit: int) -> int:
        return await self._write_prepared(lambda connection: index(connection, limit))

    # --- reading

    async def get(self, event_id: str, tenant_id: str | None) -> StoredEvent | None:
        key = blob(event_id)
        sql, values = _GET_ANY, [EVERY_EVENT, key, key]
        if tenant_id is not None:
            sql, values = f"{STORED} WHERE tenant_id = ? AND event_id = ?", [tenant_id, key]
        rows = await self._read(lambda c: c.execute(sql, values).fetchall())
        return stored(rows[0]) if rows else None

    async def get_many(self, event_ids: Sequence[str], tenant_id: str) -> list[StoredEvent]:
        def find(connection: sqlite3.Connection) -> list[StoredEvent]:
            found: list[StoredEvent] = []
            for select, values in selections(connection, [(blob(each),) for each in event_ids]):
                sql = f"{STORED} WHERE tenant_id = ? AND event_id IN ({select})"
                found.extend(map(stored, connection.execute(sql, [tenant_id, *values])))
            return found

        return await self._read(find)

    async def select(self, wanted: Selection) -> list[StoredEvent]:
        return await select_with(self._rows, FIND, wanted, stored)

    async def reach(self, wanted: Selection, candidates: int) -> Place | None:
        return await reach_with(self._rows, FIND, wanted, candidates, bytes)

    async def facts(self, wanted: Selection) -> list[Facts]:
        return await select_with(self._rows, FIND_FACTS, wanted, lambda row: Facts(*row))

    async def actions(self, tenant_id: str | None) -> list[str]:
        rows = await self._rows(FIND.actions(tenant_id, _action_of))
        return sorted(row[0] for row in rows)

    async def read(
        self, after: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Sequenced]:
        sql = "SELECT seq, tenant_id, event_id, leaf_hash, body FROM muniment_events WHERE seq > ?"
        values: list[Any] = [int(after or 0)]
        if tenant_id is not None:
            sql += " AND +tenant_id = ?"  # the + keeps to the order of seq
            values.append(tenant_id)
        values.append(limit)
        rows = await self._read(
            lambda c: c.execute(f"{sql} ORDER BY seq LIMIT ?", values).fetchall()
        )
        return [Sequenced(str(row[0]), stored(row[1:])) for row in rows]

    async def position_of(self, event_id: str, tenant_id: str | None) -> str | None:
        found = await self.get(event_id, tenant_id)
        if found is None:
            return None
        sql = "SELECT seq FROM muniment_events WHERE tenant_id = ? AND event_id = ?"
        key = (found.tenant_id, blob(event_id))
        rows = await self._read(lambda c: c.execute(sql, key).fetchall())
        return str(rows[0][0]) if rows else None

    async def last_position(self) -> str | None:
        rows = await self._read(
            lambda c: c.execute("SELECT max(seq) FROM muniment_events").fetchall()
        )
        return None if rows[0][0] is None else str(rows[0][0])

    async def stats(self) -> Mapping[str, Any]:
        def figures(connection: sqlite3.Connection) -> dict[str, Any]:
            def one(sql: str) -> Any:
                return connection.execute(sql).fetchone()[0]

            # The smallest and the largest seq, for a count would read the whole table.
            first = one("SELECT min(seq) FROM muniment_events") or 0
            last = one("SELECT max(seq) FROM muniment_events") or 0
            return {
                "events": last - first + 1 if last else 0,
                "bytes": one("PRAGMA page_count") * one("PRAGMA page_size"),
                "not_indexed": max(0, last + 1 - one("SELECT seq FROM muniment_index_state")),
                "schema": SQLITE_REVISION,
            }

        return await self._read(figures)

    # --- the schema

    async def schema_status(self) -> SchemaStatus:
        return await self._write(_status)

    async def upgrade(self) -> SchemaStatus:
        def run(connection: sqlite3.Connection) -> SchemaStatus:
            self._upgrade(connection)
            return _status(connection)

        return await self._write(run)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        status = _status(connection)
        if not status.is_current:
            status.refuse_newer()
            if not self._migrate:
                msg = f"{self.path} needs its schema: run `muniment --url {self.url} db upgrade`"
                raise SchemaMismatch(msg)
            self._upgrade(connection)
        if connection.execute("PRAGMA synchronous").fetchone()[0] < 2 and not self._allow_unsafe:
            msg = f"{self.path}: synchronous is not FULL, so a power loss may lose events"
            raise UnsafeStore(msg)
        self._is_prepared = True

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        from sqlalchemy import StaticPool, create_engine

        from muniment.stores.migrating import migrate

        engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
        try:
            with engine.connect() as lent:  # which rolls back what it finds begun
                connection.execute("BEGIN IMMEDIATE")  # of those that open a new file, one migrates
                status = _status(connection)
                if not status.is_current:
                    status.refuse_newer()
                    migrate(lent, dialect="sqlite", version_table=_VERSION_TABLE, schema=None)
                    lent.commit()
        finally:
            if connection.in_transaction:
                connection.rollback()

    # --- threads and connections

    async def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="muniment-write")
        return await self._run(self._writer, work, read_only=False)

    async def _write_prepared(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Write once the file is checked and migrated: it may not have been there for `open`."""

        def prepared(connection: sqlite3.Connection) -> _T:
            if not self._is_prepared:
                self._prepare(connection)
            return work(connection)

        return await self._write(prepared)

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="muniment-read")
        return await self._read_in(self._readers, work)

    async def _read_apart(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Read what takes no time: long searches, of whichever tenant, keep nobody else out."""
        if self._doorman is None:
            self._doorman = ThreadPoolExecutor(1, thread_name_prefix="muniment-who")
        return await self._read_in(self._doorman, work)

    async def _read_in(
        self, pool: ThreadPoolExecutor, work: Callable[[sqlite3.Connection], _T]
    ) -> _T:
        if not self._is_prepared:  # it may not have been there for `open`
            await self._write(self._prepare)
        return await self._run(pool, work, read_only=True)

    async def _rows(self, statement: ClauseElement) -> list[Any]:
        compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
        names = cast("list[str]", getattr(compiled, "positiontup", None) or [])
        params = compiled.params
        values = [params[name] for name in names]
        return await self._read(lambda c: c.execute(str(compiled), values).fetchall())

    async def _run(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[[sqlite3.Connection], _T],
        *,
        read_only: bool,
    ) -> _T:
        def guarded() -> _T:
            try:
                with self._connections.lent(read_only=read_only) as connection:
                    return work(connection)
            except sqlite3.Error as error:
                raise _translate(error, self.path) from error

        return await asyncio.get_running_loop().run_in_executor(pool, guarded)


def _action_of(terms: ColumnElement[str]) -> ColumnElement[str]:
    """An event's first term is its action."""
    rest = func.substr(terms, len(f"{TERM_SEPARATOR}action:") + 1)
    return func.substr(rest, 1, func.instr(rest, TERM_SEPARATOR) - 1)


def _status(connection: sqlite3.Connection) -> SchemaStatus:
    there = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (_VERSION_TABLE,)
    ).fetchone()
    row = there and connection.execute(f"SELECT version_num FROM {_VERSION_TABLE}").fetchone()
    current = row[0] if row else None
    known = current is None or current <= SQLITE_REVISION
    return SchemaStatus(current=current, wanted=SQLITE_REVISION, known=known)


_TRANSIENT: Final = (
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
    "SQLITE_PROTOCOL",
    "SQLITE_READONLY",
)


def _translate(error: sqlite3.Error, path: Path) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_TRANSIENT):
        return StoreUnavailable(f"{path}: {error} ({name})")
    if name.startswith(("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH")):
        return EventRefused(f"{path}: {error}")
    return StoreError(f"{path}: {error}" + (f" ({name})" if name else ""))
