"""The credentials of a SQLite store. Times are kept in microseconds since 1970."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import structs

from muniment.event_id import EPOCH
from muniment.stores.credentials import Credential, Credentials, Kind
from muniment.stores.sqlite.trees import Runner

_COLUMNS: Final = Credential.__struct_fields__
_TIMES: Final = ("created_at", "expires_at", "revoked_at", "used_at")
_ADD: Final = (
    f"INSERT INTO muniment_credentials ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join('?' for _ in _COLUMNS)})"
)
_LISTED: Final = (
    f"SELECT {', '.join(_COLUMNS)} FROM muniment_credentials WHERE kind = ? ORDER BY created_at, id"
)
_MICROSECOND: Final = timedelta(microseconds=1)


def _earlier(column: str) -> str:
    own, parents = f"c.{column}", f"p.{column}"
    return f"ifnull(min({own}, {parents}), ifnull({own}, {parents})) AS {column}"


_SELECTED: Final = ", ".join(
    _earlier(name) if name in {"expires_at", "revoked_at"} else f"c.{name}" for name in _COLUMNS
)
_FIND: Final = f"""
    SELECT {_SELECTED} FROM muniment_credentials c
    LEFT JOIN muniment_credentials p ON p.id = c.parent_id WHERE c.secret_hash = ?
"""
_USE: Final = """
    UPDATE muniment_credentials SET used_at = ?1
    WHERE id = ?2 AND kind = 'link' AND used_at IS NULL AND expires_at > ?1
      AND (revoked_at IS NULL OR revoked_at > ?1)
"""
_REVOKE: Final = """
    UPDATE muniment_credentials SET revoked_at = ?1
    WHERE id = ?2 AND ifnull(revoked_at > ?1, 1) AND ifnull(expires_at > ?1, 1)
"""
_PRUNE: Final = """
    DELETE FROM muniment_credentials WHERE kind IN ('link', 'session') AND expires_at < ?
"""


class SqliteCredentials(Credentials):
    """Credentials in the events' own file. `read` and `write` are the store's."""

    def __init__(self, *, read: Runner, write: Runner) -> None:
        self._read = read
        self._write = write

    async def add(self, credential: Credential) -> None:
        values = _values(credential)
        await self._write(lambda c: c.execute(_ADD, values))

    async def find(self, secret_hash: bytes) -> Credential | None:
        rows = await self._read(lambda c: c.execute(_FIND, (secret_hash,)).fetchall())
        return _credential(rows[0]) if rows else None

    async def use(self, id: str, at: datetime) -> bool:
        return await self._changed(_USE, _number(at), id) == 1

    async def revoke(self, id: str, at: datetime) -> bool:
        return await self._changed(_REVOKE, _number(at), id) == 1

    async def listed(self, kind: Kind = "token") -> Sequence[Credential]:
        rows = await self._read(lambda c: c.execute(_LISTED, (kind,)).fetchall())
        return [_credential(row) for row in rows]

    async def prune(self, before: datetime) -> int:
        return await self._changed(_PRUNE, _number(before))

    async def _changed(self, sql: str, *values: Any) -> int:
        def change(connection: sqlite3.Connection) -> int:
            return connection.execute(sql, values).rowcount

        return await self._write(change)


def _number(time: datetime) -> int:
    return (time - EPOCH) // _MICROSECOND


def _values(credential: Credential) -> list[Any]:
    fields = structs.asdict(credential)
    for name in _TIMES:
        fields[name] = fields[name] and _number(fields[name])
    fields["scopes"] = " ".join(credential.scopes)
    return list(fields.values())


def _credential(row: Sequence[Any]) -> Credential:
    fields = dict(zip(_COLUMNS, row, strict=True))
    for name in _TIMES:
        number = fields[name]
        fields[name] = None if number is None else EPOCH + timedelta(microseconds=number)
    fields["scopes"] = tuple(fields["scopes"].split())
    return Credential(**fields)
