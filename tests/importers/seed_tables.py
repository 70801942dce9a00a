"""Real tables of the seed's shape: the seed's own columns, and more where asked for."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

Row = dict[str, Any]


async def in_postgres(url: str, *statements: str, rows: Sequence[Row] = ()) -> None:
    """Run statements; the last of them once for each row, if there are rows."""
    connection = await asyncpg.connect(url)
    try:
        for sql in statements[:-1] if rows else statements:
            await connection.execute(sql)
        if rows:
            await connection.executemany(statements[-1], [tuple(row.values()) for row in rows])
    finally:
        await connection.close()


def fill_postgres(url: str, details: str, more: str, rows: Sequence[Row]) -> str:
    """The URL of a new table with these rows; `details` is its type, `more` are more columns."""
    create = (
        f"CREATE TABLE audit_logs (id uuid PRIMARY KEY, action text NOT NULL, details {details}, "
        f"agent_id uuid, user_id uuid, created_at timestamptz{more})"
    )
    places = [f"${n}::text::{_cast(name, details)}" for n, name in enumerate(rows[0], 1)]
    insert = f"INSERT INTO audit_logs ({', '.join(rows[0])}) VALUES ({', '.join(places)})"
    as_text = [{**row, "created_at": row["created_at"].isoformat()} for row in rows]
    asyncio.run(in_postgres(url, create, insert, rows=as_text))
    return url


def _cast(name: str, details: str) -> str:
    kinds = {"created_at": "timestamptz", "details": details, "ip_address": "inet"}
    return kinds.get(name, "uuid" if name.endswith("id") and name != "tenant_id" else "text")


def fill_sqlite(path: Path, more: str, rows: Iterable[Row]) -> str:
    """The URL of a new file with these rows, kept as SQLAlchemy keeps UUIDs and times."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE audit_logs (id CHAR(32) PRIMARY KEY, action TEXT, details TEXT, "
            f"agent_id CHAR(32), user_id CHAR(32), created_at DATETIME{more})"
        )
        for row in rows:
            values = [_as_sqlalchemy_stores_it(name, value) for name, value in row.items()]
            connection.execute(
                f"INSERT INTO audit_logs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                values,
            )
        connection.commit()
    return f"sqlite:///{path}"


def _as_sqlalchemy_stores_it(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if name in {"id", "agent_id", "user_id"} and isinstance(value, str):
        return value.replace("-", "")
    return value
