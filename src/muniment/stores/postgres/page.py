"""Reads pages of events from PostgreSQL, by index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import ClauseElement

from muniment.stores.base import Selection

_DIALECT: Final = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
# An index gives a page at once; a plan that goes by a table's size would read it whole.
BY_INDEX: Final = """
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_sort = off;
    SET LOCAL max_parallel_workers_per_gather = 0;
    SET LOCAL jit = off;
    SET LOCAL plan_cache_mode = force_custom_plan
"""
_PATIENCE: Final = 1.0
_BEGIN: Final = f"BEGIN READ ONLY; {BY_INDEX}"


async def run(connection: Any, statement: ClauseElement) -> list[Any]:
    """The rows of a statement built with SQLAlchemy."""
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names = cast("list[str]", getattr(compiled, "positiontup", None) or [])
    params = compiled.params
    rows = await connection.fetch(str(compiled), *(params[name] for name in names))
    return cast("list[Any]", rows)


def native(wanted: Selection) -> Selection:
    """The selection with its ids as asyncpg takes them."""
    after, upto = wanted.after, wanted.upto
    return msgspec.structs.replace(
        wanted,
        since_id=None if wanted.since_id is None else UUID(bytes=wanted.since_id),
        until_id=None if wanted.until_id is None else UUID(bytes=wanted.until_id),
        after=None if after is None else (UUID(bytes=after[0]), after[1]),
        upto=None if upto is None else (UUID(bytes=upto[0]), upto[1]),
    )


@asynccontextmanager
async def paging(connection: Any) -> AsyncIterator[None]:
    """A read-only transaction whose plans go by index; its settings end with it."""
    try:
        await connection.execute(_BEGIN)
        yield
    finally:
        await roll_back(connection)


async def roll_back(connection: Any) -> None:
    """End the transaction, or the connection with it: the next to be lent it finds none open.

    A server that hangs is not waited for. Once it goes on it finds the connection gone.
    """
    try:
        if not connection.is_closed():
            async with asyncio.timeout(_PATIENCE):
                await connection.execute("ROLLBACK")
    except BaseException as error:
        with suppress(asyncpg.InterfaceError):  # the pool has it back already
            connection.terminate()
        if not isinstance(error, Exception):
            raise
