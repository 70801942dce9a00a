"""The PostgreSQL store: COPY or unnest in, monthly partitions, row security, append-only.

Position in the order of recording is (epoch, xid, seq): ids of transactions become visible out of
order, so nothing is read past the oldest transaction that is still running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from uuid import UUID

import asyncpg
from sqlalchemy import SmallInteger, Uuid, collate, func
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
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
    SchemaStatus,
    Sealed,
    Selection,
    Sequenced,
    Store,
    StoredEvent,
)
from muniment.stores.plan import native, select_with
from muniment.stores.postgres_append import (
    COLUMNS,
    INSERT,
    STORED,
    KnownPartitions,
    append_unless_there,
    columns_of,
    stored,
    transposed,
)
from muniment.stores.schema import (
    EVERY_EVENT,
    POSTGRES_REVISION,
    POSTGRES_SCHEMA,
    XID8,
    define_tables,
)
from muniment.stores.selecting import Statements

_BEHIND: Final = "(epoch, xid) >= (SELECT epoch, xid FROM muniment.index_state)"
_GET_ANY: Final = f"""
    SELECT e.tenant_id, e.event_id, e.leaf_hash, e.body FROM muniment.postings p
    JOIN muniment.events e USING (tenant_id, event_id)
    WHERE p.term = '{EVERY_EVENT}' AND p.event_id = $1 AND e.event_id = $1
    UNION ALL
    {STORED} WHERE {_BEHIND} AND event_id = $1
    LIMIT 1
"""
_READ: Final = """
    SELECT epoch, xid::text, seq, tenant_id, event_id, leaf_hash, body FROM muniment.events
    WHERE (epoch, xid, seq) > ($1::smallint, ($2::text)::xid8, $3::bigint)
      AND (epoch < (SELECT max(epoch) FROM muniment.epochs)
           OR xid < pg_snapshot_xmin(pg_current_snapshot()))
      AND ($4::text IS NULL OR tenant_id = $4)
    ORDER BY epoch, xid, seq LIMIT $5
"""
# An index gives the page at once; a plan by a table's size would read it whole.
_FOR_PAGES: Final = (
    "BEGIN READ ONLY; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; "
    "SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; "
    "SET LOCAL plan_cache_mode = force_custom_plan"
)
_RETRIES: Final = 3
_DIALECT: Final = PGDialect_asyncpg()
_TABLES: Final = define_tables(
    prefix="",
    schema=POSTGRES_SCHEMA,
    id_type=Uuid(),
    sequence={"epoch": SmallInteger(), "xid": XID8()},
)
_STATEMENTS: Final = Statements(
    _TABLES,
    sequence=("epoch", "xid"),
    has_lateral=True,
    position=func.strpos,
    lower=lambda column: func.lower(collate(column, "C")),
)


class PostgresStore(Store):
    """Events in the schema `muniment` of a PostgreSQL database (15 or later).

    `connect_timeout` is in seconds. `copy` says whether to write through COPY, which PostgreSQL
    grants only to roles that row security does not bind; by default it is asked.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float = 5.0,
        pool_size: int = 4,
        copy: bool | None = None,
        allow_unsafe: bool = False,
        migrate: bool = False,
    ) -> None:
        self.url = url
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._copy_wanted = copy
        self._copy = bool(copy)
        self._allow_unsafe = allow_unsafe
        self._migrate = migrate
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._partitions = KnownPartitions()

    async def open(self) -> None:
        if self._migrate:
            await self.upgrade()
        await self._connected()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()

    # --- writing

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        for attempt in range(_RETRIES):
            try:
                return await self._append(batch)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in _WORTH_RETRYING or attempt == _RETRIES - 1:
                    raise _translate(error) from error
        return {}

    async def _append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        async with self._connection() as connection:
            await self._ensure_partitions(connection, batch)
            if not any(event.may_repeat or event.key for event in batch):
                try:
                    await self._append_new(connection, batch)
                except asyncpg.UniqueViolationError:
                    pass
                else:
                    return {}
            async with connection.transaction():
                return await append_unless_there(connection, batch)

    async def _append_new(self, connection: Any, batch: Sequence[Sealed]) -> None:
        if self._copy:
            await connection.copy_records_to_table(
                "events", schema_name=POSTGRES_SCHEMA, columns=COLUMNS, records=map(columns_of, batch)
            )
        else:
            await connection.execute(INSERT, *transposed(batch))

    async def append_in(self, connection: Any, event: Sealed) -> StoredEvent | None:
        raw = await _raw_connection(connection)
        if self._partitions.missing([event]):
            # In a transaction of our own: in the caller's it would hold a lock for its length.
            async with self._connection() as own:
                await self._ensure_partitions(own, [event])
        try:
            return (await append_unless_there(raw, [event])).get(0)
        except asyncpg.UndefinedTableError as error:
            msg = "connection: its database has no muniment schema; run `muniment db upgrade` there"
            raise SchemaMismatch(msg) from error
        except asyncpg.PostgresError as error:
            raise _translate(error) from error

    async def index_pending(self, limit: int) -> int:
        async with self._connection() as connection:
            done = await connection.fetchval("SELECT muniment.index_pending($1)", limit)
            return int(done)

    # --- reading

    async def get(self, event_id: str, tenant_id: str | None) -> StoredEvent | None:
        async with self._connection() as connection:
            if tenant_id is not None:
                sql = f"{STORED} WHERE tenant_id = $1 AND event_id = $2"
                row = await connection.fetchrow(sql, tenant_id, event_id)
            else:
                row = await connection.fetchrow(_GET_ANY, event_id)
        return None if row is None else stored(row)

    async def select(self, wanted: Selection) -> list[StoredEvent]:
        async with self._connection() as connection, _paging(connection):

            async def fetch(statement: ClauseElement) -> list[StoredEvent]:
                return [stored(row) for row in await _run(connection, statement)]

            async def count(statement: ClauseElement) -> int:
                return int((await _run(connection, statement))[0][0])

            ours = native(wanted, lambda raw: UUID(bytes=raw))
            return await select_with(fetch, _STATEMENTS, ours, count)

    async def actions(self, tenant_id: str | None) -> list[str]:
        first = func.split_part(_TABLES.events.c.terms, TERM_SEPARATOR, 2)
        action = func.substr(first, len("action:") + 1)
        async with self._connection() as connection, _paging(connection):
            rows = await _run(connection, _STATEMENTS.actions(tenant_id, action))
        return sorted(row[0] for row in rows)

    async def read(
        self, after: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Sequenced]:
        epoch, xid, seq = (after or "0.0.0").split(".")
        async with self._connection() as connection, _paging(connection):
            rows = await connection.fetch(_READ, int(epoch), xid, int(seq), tenant_id, limit)
        return [Sequenced(f"{row[0]}.{row[1]}.{row[2]}", stored(row[3:])) for row in rows]

    async def position_of(self, event_id: str, tenant_id: str | None) -> str | None:
        found = await self.get(event_id, tenant_id)
        if found is None:
            return None
        sql = (
            "SELECT epoch || '.' || xid::text || '.' || seq FROM muniment.events "
            "WHERE tenant_id = $1 AND event_id = $2"
        )
        async with self._connection() as connection:
            return cast("str", await connection.fetchval(sql, found.tenant_id, event_id))

    async def last_position(self) -> str | None:
        sql = (
            "SELECT max(epoch) || '.' || pg_snapshot_xmin(pg_current_snapshot())::text || '.-1' "
            "FROM muniment.epochs"
        )
        async with self._connection() as connection:
            return cast("str", await connection.fetchval(sql))

    async def stats(self) -> Mapping[str, Any]:
        sizes = """
            SELECT coalesce(sum(greatest(reltuples, 0)) FILTER (WHERE parent = 'events'), 0),
                   coalesce(sum(pg_total_relation_size(oid)), 0),
                   count(*) FILTER (WHERE parent = 'events')
            FROM (SELECT c.oid, c.reltuples, p.relname AS parent FROM pg_inherits i
                  JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
                  WHERE p.relnamespace = 'muniment'::regnamespace
                    AND p.relname IN ('events', 'postings')) parts
        """
        behind = (
            f"SELECT count(*) FROM (SELECT 1 FROM muniment.events WHERE {_BEHIND} LIMIT 100000) behind"
        )
        async with self._connection() as connection, _paging(connection):
            events, size, partitions = await connection.fetchrow(sizes)
            lag = await connection.fetchval(behind)
        return {
            "events": int(events),
            "bytes": int(size),
            "not_indexed": lag,
            "partitions": partitions,
            "schema": POSTGRES_REVISION,
        }

    # --- the schema

    async def schema_status(self) -> SchemaStatus:
        connection = await self._connect()
        try:
            return await _status(connection)
        except asyncpg.PostgresError as error:
            raise _translate(error) from error
        finally:
            await connection.close()

    async def upgrade(self) -> SchemaStatus:
        from muniment.stores.postgres_schema import upgrade_schema

        status = await self.schema_status()
        _refuse_unknown(status)
        try:
            await upgrade_schema(self.url)
        except asyncpg.PostgresError as error:
            raise _translate(error) from error
        return await self.schema_status()

    # --- connections

    async def _connect(self) -> Any:
        try:
            return await asyncpg.connect(self.url, timeout=self._connect_timeout)
        except _UNREACHABLE as error:
            raise StoreUnavailable(f"{_place(self.url)}: {error or type(error).__name__}") from error
        except asyncpg.PostgresError as error:
            raise _translate(error) from error
        except ValueError as error:
            raise StoreError(f"url: {error}") from error

    async def _connected(self) -> asyncpg.Pool[asyncpg.Record]:
        """The pool, made when first needed: the store may come up after the log."""
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    connection = await self._connect()
                    try:
                        await self._check(connection)
                    except asyncpg.PostgresError as error:
                        raise _translate(error) from error
                    finally:
                        await connection.close(timeout=1)
                    self._pool = await asyncpg.create_pool(
                        self.url,
                        min_size=0,
                        max_size=self._pool_size,
                        timeout=self._connect_timeout,
                        reset=_no_reset,
                    )
        return self._pool

    async def _check(self, connection: Any) -> None:
        status = await _status(connection)
        if not status.is_current:
            _refuse_unknown(status)
            msg = (
                f"{_place(self.url)} has schema {status.current or 'none'}, not {status.wanted}: "
                "run `muniment --url … db upgrade` with a role that may create schemas"
            )
            raise SchemaMismatch(msg)
        unsafe = [
            name
            for name in ("fsync", "synchronous_commit", "full_page_writes")
            if await connection.fetchval("SELECT current_setting($1)", name) == "off"
        ]
        if unsafe and not self._allow_unsafe:
            msg = (
                f"{_place(self.url)} has {' and '.join(unsafe)} off, so a crash loses committed "
                "events: turn it on, or open with allow_unsafe=True"
            )
            raise UnsafeStore(msg)
        if await _is_another_cluster(connection):
            msg = (
                f"{_place(self.url)} was restored into another cluster, where transaction ids start "
                "over: run `muniment --url … db upgrade` to begin a new epoch"
            )
            raise SchemaMismatch(msg)
        if self._copy_wanted is None:
            bound = await connection.fetchval("SELECT row_security_active('muniment.events')")
            self._copy = not bound

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = await self._connected()
        try:
            async with pool.acquire(timeout=self._connect_timeout) as connection:
                yield connection
        except (asyncpg.UniqueViolationError, StoreError):
            raise
        except asyncpg.PostgresError as error:
            if error.sqlstate in _WORTH_RETRYING:
                raise
            raise _translate(error) from error
        except _UNREACHABLE as error:
            raise StoreUnavailable(f"{_place(self.url)}: {error or type(error).__name__}") from error

    async def _ensure_partitions(self, connection: Any, batch: Sequence[Sealed]) -> None:
        for month in self._partitions.missing(batch):
            await connection.fetchval("SELECT muniment.ensure_partition($1)", month)
            self._partitions.add(month)


async def _run(connection: Any, statement: ClauseElement) -> list[Any]:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names = cast("list[str]", getattr(compiled, "positiontup", None) or [])
    params = compiled.params
    rows = await connection.fetch(str(compiled), *(params[name] for name in names))
    return cast("list[Any]", rows)


@asynccontextmanager
async def _paging(connection: Any) -> AsyncIterator[None]:
    """A read-only transaction whose plans go by index; its settings end with it."""
    await connection.execute(_FOR_PAGES)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")


async def _no_reset(connection: Any) -> None:
    """Nothing to reset: no session state is ever set."""


async def _raw_connection(connection: Any) -> Any:
    """The asyncpg connection under an SQLAlchemy session or connection, or itself."""
    if hasattr(connection, "connection") and hasattr(connection, "add_all"):
        connection = await connection.connection()
    if hasattr(connection, "get_raw_connection"):
        raw = await connection.get_raw_connection()
        connection = raw.driver_connection
    if isinstance(connection, asyncpg.Connection) or hasattr(connection, "fetchrow"):
        if not connection.is_in_transaction():
            msg = "connection: it is in no transaction; begin one, for record_in commits with it"
            raise StoreError(msg)
        return connection
    msg = (
        "connection: a log in PostgreSQL needs an asyncpg connection, or an AsyncSession or "
        f"AsyncConnection over asyncpg, not {type(connection).__name__}"
    )
    raise StoreError(msg)


async def _status(connection: Any) -> SchemaStatus:
    current = None
    if await connection.fetchval("SELECT to_regclass('muniment.schema_version')") is not None:
        current = await connection.fetchval("SELECT version_num FROM muniment.schema_version")
    known = current is None or current <= POSTGRES_REVISION
    return SchemaStatus(current=current, wanted=POSTGRES_REVISION, known=known)


def _refuse_unknown(status: SchemaStatus) -> None:
    if not status.known:
        msg = (
            f"the database has schema {status.current}, newer than {status.wanted}, the newest this "
            "version of muniment knows: install a newer muniment"
        )
        raise SchemaMismatch(msg)


async def _is_another_cluster(connection: Any) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT system_identifier <> (SELECT system_identifier FROM pg_control_system()) "
            "FROM muniment.epochs ORDER BY epoch DESC LIMIT 1"
        )
    )


_UNREACHABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_WORTH_RETRYING: Final = frozenset({"40001", "40P01"})
_DATA_AT_FAULT: Final = ("22", "23", "P0")


def _translate(error: asyncpg.PostgresError) -> StoreError:
    state = error.sqlstate or ""
    if state[:2] in {"08", "53", "57", "58"} or isinstance(error, asyncpg.PostgresConnectionError):
        return StoreUnavailable(f"{error} ({state})")
    if state[:2] in _DATA_AT_FAULT or (state == "42501" and "row-level security" in str(error)):
        return EventRefused(f"{error} ({state})")
    return StoreError(f"{error} ({state})")


def _place(url: str) -> str:
    """The URL without its user and password."""
    return "postgresql://" + url.partition("://")[2].rpartition("@")[2]
