"""The one connection through which batches are appended, so that no search can hold them up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

_T = TypeVar("_T")


class Writer:
    """Lends a connection to one call at a time; it is made when needed, and again when broken.

    `check` raises if a new one must not be used, and ends it.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        check: Callable[[Any], Awaitable[None]],
    ) -> None:
        self._connect = connect
        self._check = check
        self._lock = asyncio.Lock()
        self._connection: Any = None

    async def run(self, work: Callable[[Any], Awaitable[_T]]) -> _T:
        """The result of `work`, given the connection.

        What isn't the server's own answer, being cancelled included, leaves a connection in an
        unknown state: it is given up, and the server ends what it was at.
        """
        async with self._lock:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = await self._connect()
                await self._check(connection)
                self._connection = connection
            try:
                return await work(connection)
            except asyncpg.PostgresError:
                raise
            except BaseException:
                self._connection = None
                connection.terminate()
                raise

    async def close(self, seconds: float) -> None:
        """End the connection, in an orderly way for up to `seconds`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=seconds)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
