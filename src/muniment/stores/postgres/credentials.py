"""The credentials of a PostgreSQL store, for members of muniment_service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, Final

import asyncpg
from msgspec import structs

from muniment.errors import StoreError
from muniment.stores.credentials import Credential, Credentials, Kind

_COLUMNS: Final = Credential.__struct_fields__
_ADD: Final = (
    f"INSERT INTO muniment.credentials ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join(f'${n}' for n, _ in enumerate(_COLUMNS, 1))})"
)
_LISTED: Final = (
    f"SELECT {', '.join(_COLUMNS)} FROM muniment.credentials WHERE kind = $1 "
    "ORDER BY created_at, id"
)
_SELECTED: Final = ", ".join(
    f"least(c.{name}, p.{name}) AS {name}" if name in {"expires_at", "revoked_at"} else f"c.{name}"
    for name in _COLUMNS
)
_FIND: Final = f"""
    SELECT {_SELECTED} FROM muniment.credentials c
    LEFT JOIN muniment.credentials p ON p.id = c.parent_id WHERE c.secret_hash = $1
"""
_USE: Final = """
    UPDATE muniment.credentials SET used_at = $1
    WHERE id = $2 AND kind = 'link' AND used_at IS NULL AND expires_at > $1
      AND (revoked_at IS NULL OR revoked_at > $1)
"""
_REVOKE: Final = """
    UPDATE muniment.credentials SET revoked_at = $1
    WHERE id = $2 AND (revoked_at IS NULL OR revoked_at > $1)
      AND (expires_at IS NULL OR expires_at > $1)
"""
# By the server's clock too: who serves may remove nothing that is good for something.
_PRUNE: Final = """
    DELETE FROM muniment.credentials
    WHERE kind IN ('link', 'session') AND expires_at < least($1, now())
"""
_Connection = Callable[[], AbstractAsyncContextManager[Any]]


class PostgresCredentials(Credentials):
    """Credentials in the events' own database."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def add(self, credential: Credential) -> None:
        async with self._allowed() as connection:
            await connection.execute(_ADD, *structs.asdict(credential).values())

    async def find(self, secret_hash: bytes) -> Credential | None:
        async with self._allowed() as connection:
            row = await connection.fetchrow(_FIND, secret_hash)
        return None if row is None else _credential(row)

    async def use(self, id: str, at: datetime) -> bool:
        return await self._changed(_USE, at, id) == 1

    async def revoke(self, id: str, at: datetime) -> bool:
        return await self._changed(_REVOKE, at, id) == 1

    async def listed(self, kind: Kind = "token") -> Sequence[Credential]:
        async with self._allowed() as connection:
            return [_credential(row) for row in await connection.fetch(_LISTED, kind)]

    async def prune(self, before: datetime) -> int:
        return await self._changed(_PRUNE, before)

    async def _changed(self, sql: str, *values: Any) -> int:
        async with self._allowed() as connection:
            done: str = await connection.execute(sql, *values)
        return int(done.rpartition(" ")[2])

    @asynccontextmanager
    async def _allowed(self) -> AsyncIterator[Any]:
        """A connection. Who lacks the right is told which one."""
        async with self._connection() as connection:
            try:
                yield connection
            except asyncpg.InsufficientPrivilegeError as error:
                if "permission denied" not in str(error):
                    raise
                user = await connection.fetchval("SELECT current_user")
                raise StoreError(
                    f"{error}: run `GRANT muniment_service TO {user}` with the schema's owner"
                ) from error


def _credential(row: Any) -> Credential:
    return Credential(**{**row, "scopes": tuple(row["scopes"])})
