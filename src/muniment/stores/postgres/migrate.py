"""Migrates a PostgreSQL database, and begins a new epoch in a restored one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from muniment.stores.migrating import migrate
from muniment.stores.schema import POSTGRES_SCHEMA

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('muniment.upgrade', 0))")
# CREATE SCHEMA IF NOT EXISTS asks for the right to create it even if there is nothing to do.
_HAS_SCHEMA = text(f"SELECT to_regnamespace('{POSTGRES_SCHEMA}') IS NOT NULL")
_RESTORED = text(
    "SELECT epoch FROM muniment.epochs WHERE epoch = (SELECT max(epoch) FROM muniment.epochs) "
    "AND system_identifier <> (SELECT system_identifier FROM pg_control_system())"
)


async def upgrade_schema(connect: Callable[[], Awaitable[Any]]) -> None:
    """Migrate to the newest revision, all or nothing, and adopt a database restored elsewhere.

    `connect` makes a connection that keeps no statements. Raises asyncpg's errors.
    """
    try:
        await asyncio.to_thread(lambda: asyncio.run(_upgrade(connect)))
    except DBAPIError as error:
        cause = error.orig and error.orig.__cause__
        raise (cause or error) from error


async def _upgrade(connect: Callable[[], Awaitable[Any]]) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        connect_args={
            "async_creator_fn": lambda *_, **__: connect(),
            # A pooler may give the next statement's connection to somebody with the same names.
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        },
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(_ONE_AT_A_TIME)
            if not await connection.scalar(_HAS_SCHEMA):
                await connection.execute(text(f"CREATE SCHEMA {POSTGRES_SCHEMA}"))
            await connection.run_sync(_migrate)
            await connection.run_sync(_begin_epoch_if_restored)
    finally:
        await engine.dispose()


def _migrate(connection: Connection) -> None:
    migrate(connection, dialect="postgres", version_table="schema_version", schema=POSTGRES_SCHEMA)


def _begin_epoch_if_restored(connection: Connection) -> None:
    """Transaction ids start over in another cluster: rank its events behind all there are.

    The index and the counts start over too, since the old cluster may have left them anywhere.
    """
    epoch = connection.execute(_RESTORED).scalar()
    if epoch is None:
        return
    following = int(epoch) + 1
    connection.execute(
        text(
            "INSERT INTO muniment.epochs SELECT :epoch, system_identifier FROM pg_control_system()"
        ),
        {"epoch": following},
    )
    connection.execute(text(f"ALTER TABLE muniment.events ALTER epoch SET DEFAULT {following}"))
    connection.execute(text("UPDATE muniment.index_state SET epoch = 0, xid = '0'"))
    connection.execute(text("SELECT muniment.forget_counts()"))
