"""The PostgreSQL store: COPY or unnest in, monthly partitions, row security, append-only.

Position in the order of recording is (epoch, xid, seq): ids of transactions become visible out of
order, so nothing is read past the oldest transaction that is still running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, cast

import asyncpg
from sqlalchemy import ColumnElement, func

from muniment.errors import InvalidConfig, SchemaMismatch, StoreError, UnsafeStore
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
from muniment.stores.counts import Facts
from muniment.stores.plan import Rows, reach_with, select_with
from muniment.stores.postgres.append import (
    COLUMNS,
    INSERT,
    KnownPartitions,
    append_unless_there,
    columns_of,
    in_transaction,
    stored,
    transposed,
)
from muniment.stores.postgres.checks import (
    is_pooled,
    months_made,
    refuse_another_cluster,
    schema_status,
    unsafe_settings,
)
from muniment.stores.postgres.counts import PostgresCounts
from muniment.stores.postgres.credentials import PostgresCredentials
from muniment.stores.postgres.faults import (
    MALFORMED_URL,
    UNREACHABLE,
    WORTH_RETRYING,
    place,
    translate,
    translate_in_upgrade,
    unreachable,
)
from muniment.stores.postgres.page import native, paging, run
from muniment.stores.postgres.sql import (
    COUNTED,
    ENSURE_PARTITION,
    FEW_EVENTS,
    GET,
    GET_ANY,
    GET_MANY,
    LAST_POSITION,
    NOT_INDEXED,
    POSITION,
    READ,
    SIZES,
)
from muniment.stores.postgres.statements import FIND, FIND_FACTS
from muniment.stores.postgres.trees import PostgresTrees
from muniment.stores.postgres.turns import Turns
from muniment.stores.postgres.writer import Writer
from muniment.stores.schema import POSTGRES_REVISION, POSTGRES_SCHEMA

_RETRIES: Final = 3
_STATEMENTS_KEPT: Final = 100
_ORDERLY: Final = 5.0


class PostgresStore(Store):
    """Events in the schema `muniment` of a PostgreSQL database (15 or later).

    `connect_timeout` is in seconds. `copy` says whether to write through COPY, which PostgreSQL
    grants only to roles that row security does not bind; by default it is asked. Behind a pooler
    nothing is prepared for later, and nothing goes through COPY: the next transaction may be served
    by another connection.
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
        self._copy = False
        self._statements_kept = 0
        self._allow_unsafe = allow_unsafe
        self._migrate = migrate
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        # Searches may take long: what is quick, as knowing callers is, has connections beside them.
        self._turns = Turns(max(1, pool_size - 2))
        self._writer = Writer(self._connect, self._check_cluster)
        self._partitions = KnownPartitions()
        self._partitions_at_open = KnownPartitions()
        self._repeating = False
        self.trees = PostgresTrees(self._connection)
        self.credentials = PostgresCredentials(self._connection)
        self.counts = PostgresCounts(self._connection)

    async def open(self) -> None:
        if self._migrate:
            await self.upgrade()
        await self._connected()

    async def close(self) -> None:
        await self._writer.close(_ORDERLY)
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), _ORDERLY)
            except TimeoutError:
                pool.terminate()

    # --- writing

    async def append(self, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        for attempt in range(_RETRIES):
            try:
                await self._connected()
                return await self._writer.run(lambda connection: self._append(connection, batch))
            except asyncpg.PostgresError as error:
                if error.sqlstate not in WORTH_RETRYING or attempt == _RETRIES - 1:
                    raise translate(error) from error
            except UNREACHABLE as error:
                raise unreachable(self.url, error) from error
        return {}

    async def _append(self, connection: Any, batch: Sequence[Sealed]) -> Mapping[int, StoredEvent]:
        await self._ensure_partitions(connection, batch)
        if not any(e.key or (e.may_repeat and self._repeating) for e in batch):
            try:
                await self._append_new(connection, batch)
            except asyncpg.UniqueViolationError:
                pass
            else:
                return {}
        async with connection.transaction():
            already = await append_unless_there(connection, batch)
        # Where one repeats, as in an import that is run again, the next will too.
        self._repeating = bool(already)
        return already

    async def _append_new(self, connection: Any, batch: Sequence[Sealed]) -> None:
        if self._copy:
            await connection.copy_records_to_table(
                "events",
                schema_name=POSTGRES_SCHEMA,
                columns=COLUMNS,
                records=map(columns_of, batch),
            )
        else:
            await connection.execute(INSERT, *transposed(batch))

    async def append_in(self, connection: Any, event: Sealed) -> StoredEvent | None:
        raw = await in_transaction(connection)
        if self._partitions.missing([event]):
            # In a transaction of our own: in the caller's it would hold a lock for its length.
            # Not waited for for ever: behind a pooler callers may hold all connections.
            async with self._connection() as own, asyncio.timeout(self._connect_timeout):
                await self._ensure_partitions(own, [event])
        try:
            for month in self._partitions_at_open.missing([event]):
                # The caller's transaction may be older than the partition, and not know of it.
                await raw.execute(ENSURE_PARTITION, month)
            return (await append_unless_there(raw, [event])).get(0)
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            msg = "connection: its database has no muniment schema; run `muniment db upgrade` there"
            raise SchemaMismatch(msg) from error
        except asyncpg.PostgresError as error:
            raise translate(error) from error

    async def index_pending(self, limit: int) -> int:
        async with self._connection() as connection:
            done = await connection.fetchval("SELECT muniment.index_pending($1)", limit)
            return int(done)

    # --- reading

    async def get(self, event_id: str, tenant_id: str | None) -> StoredEvent | None:
        async with self._connection() as connection:
            if tenant_id is not None:
                row = await connection.fetchrow(GET, tenant_id, event_id)
            else:
                row = await connection.fetchrow(GET_ANY, event_id)
        return None if row is None else stored(row)

    async def get_many(self, event_ids: Sequence[str], tenant_id: str) -> list[StoredEvent]:
        async with self._connection() as connection:
            return [stored(row) for row in await connection.fetch(GET_MANY, tenant_id, event_ids)]

    async def select(self, wanted: Selection) -> list[StoredEvent]:
        async with self._searching(wanted.tenant_id) as rows:
            return await select_with(rows, FIND, native(wanted), stored)

    async def reach(self, wanted: Selection, candidates: int) -> Place | None:
        async with self._searching(wanted.tenant_id) as rows:
            return await reach_with(
                rows, FIND, native(wanted), candidates, lambda event_id: event_id.bytes
            )

    async def facts(self, wanted: Selection) -> list[Facts]:
        async with self._searching(wanted.tenant_id) as rows:
            return await select_with(
                rows,
                FIND_FACTS,
                native(wanted),
                lambda row: Facts(row[0], row[1].bytes, row[2]),
            )

    @asynccontextmanager
    async def _searching(self, tenant_id: str | None) -> AsyncIterator[Rows]:
        waited = self._turns.of(tenant_id, self._connect_timeout)
        async with waited, self._connection() as connection, paging(connection):
            yield partial(run, connection)

    async def actions(self, tenant_id: str | None) -> list[str]:
        async with self._connection() as connection, paging(connection):
            rows = await run(connection, FIND.actions(tenant_id, _action_of))
        return sorted(row[0] for row in rows)

    async def read(
        self, after: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Sequenced]:
        epoch, xid, seq = (after or "0.0.0").split(".")
        async with self._connection() as connection, paging(connection):
            rows = await connection.fetch(READ, int(epoch), xid, int(seq), tenant_id, limit)
        return [Sequenced(f"{row[0]}.{row[1]}.{row[2]}", stored(row[3:])) for row in rows]

    async def position_of(self, event_id: str, tenant_id: str | None) -> str | None:
        found = await self.get(event_id, tenant_id)
        if found is None:
            return None
        async with self._connection() as connection:
            return cast("str", await connection.fetchval(POSITION, found.tenant_id, event_id))

    async def last_position(self) -> str | None:
        async with self._connection() as connection:
            return cast("str", await connection.fetchval(LAST_POSITION))

    async def stats(self) -> Mapping[str, Any]:
        async with self._connection() as connection, paging(connection):
            estimated, size, partitions = await connection.fetchrow(SIZES)
            counted = await connection.fetchval(FEW_EVENTS)
            lag = await connection.fetchval(NOT_INDEXED)
        return {
            "events": counted if counted <= COUNTED else max(counted, int(estimated)),
            "bytes": int(size),
            "not_indexed": lag,
            "partitions": partitions,
            "schema": POSTGRES_REVISION,
        }

    # --- the schema

    async def schema_status(self) -> SchemaStatus:
        connection = await self._connect()
        try:
            return await schema_status(connection)
        except asyncpg.PostgresError as error:
            raise translate(error) from error
        finally:
            await connection.close()

    async def upgrade(self) -> SchemaStatus:
        from muniment.stores.postgres.migrate import upgrade_schema

        (await self.schema_status()).refuse_newer()
        try:
            await upgrade_schema(self._connect)
        except asyncpg.PostgresError as error:
            raise translate_in_upgrade(error) from error
        return await self.schema_status()

    # --- connections

    async def _connect(self) -> Any:
        try:
            return await asyncpg.connect(
                self.url,
                timeout=self._connect_timeout,
                statement_cache_size=self._statements_kept,
            )
        except MALFORMED_URL as error:
            raise InvalidConfig(f"url: {place(self.url)}: {error}") from error
        except UNREACHABLE as error:
            raise unreachable(self.url, error) from error
        except asyncpg.PostgresError as error:
            raise translate(error) from error

    async def _check_cluster(self, connection: Any) -> None:
        await refuse_another_cluster(connection, place(self.url))

    async def _connected(self) -> asyncpg.Pool[asyncpg.Record]:
        """The pool, made when first needed: the store may come up after the log."""
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    connection = await self._connect()
                    try:
                        await self._check(connection)
                    except asyncpg.PostgresError as error:
                        raise translate(error) from error
                    finally:
                        await connection.close(timeout=1)
                    self._pool = await asyncpg.create_pool(
                        self.url,
                        min_size=0,
                        max_size=self._pool_size,
                        timeout=self._connect_timeout,
                        statement_cache_size=self._statements_kept,
                        init=self._check_cluster,
                        reset=_no_reset,
                    )
        return self._pool

    async def _check(self, connection: Any) -> None:
        status = await schema_status(connection)
        if not status.is_current:
            status.refuse_newer()
            msg = (
                f"{place(self.url)} has schema {status.current or 'none'}, not {status.wanted}: "
                "run `muniment --url … db upgrade` with a role that may create schemas"
            )
            raise SchemaMismatch(msg)
        unsafe = await unsafe_settings(connection)
        if unsafe and not self._allow_unsafe:
            msg = (
                f"{place(self.url)} has {' and '.join(unsafe)} off, so a crash loses committed "
                "events: turn it on, or open with allow_unsafe=True"
            )
            raise UnsafeStore(msg)
        await self._check_cluster(connection)
        pooled = await is_pooled(connection)
        self._statements_kept = 0 if pooled else _STATEMENTS_KEPT
        # asyncpg's COPY prepares a statement first, so behind a pooler there is none.
        self._copy = not pooled and await self._may_copy(connection)
        for month in await months_made(connection):
            self._partitions.add(month)
            self._partitions_at_open.add(month)

    async def _may_copy(self, connection: Any) -> bool:
        if self._copy_wanted is not None:
            return self._copy_wanted
        return not await connection.fetchval("SELECT row_security_active('muniment.events')")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pool = await self._connected()
        try:
            async with pool.acquire(timeout=self._connect_timeout) as connection:
                yield connection
        except StoreError:
            raise
        except asyncpg.PostgresError as error:
            raise translate(error) from error
        except UNREACHABLE as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The server did not confirm in time that it cancelled: our caller knows no more.
                raise asyncio.CancelledError from error
            raise unreachable(self.url, error) from error

    async def _ensure_partitions(self, connection: Any, batch: Sequence[Sealed]) -> None:
        for month in self._partitions.missing(batch):
            await connection.fetchval(ENSURE_PARTITION, month)
            self._partitions.add(month)


async def _no_reset(connection: Any) -> None:
    """Nothing to reset: no session state is ever set."""


def _action_of(terms: ColumnElement[str]) -> ColumnElement[str]:
    """An event's first term is its action."""
    return func.substr(func.split_part(terms, TERM_SEPARATOR, 2), len("action:") + 1)
