"""Many rows in few statements.

A thread that runs a statement waits for the interpreter's lock more than once, and where another
thread computes, each of these waits takes `sys.getswitchinterval()`, 5 ms. An `executemany` of
2,000 rows, which runs 2,000 statements, then takes minutes, in a transaction that others wait for.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

_EXACT: Final = 32
_MOST_ROWS: Final = 2_048


def insertions(
    connection: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[str, list[Any]]]:
    """The statements, each with its values, that insert `rows`, all of one length.

    `insert` is a statement up to its values.
    """
    for select, values in selections(connection, rows):
        yield f"{insert} {select}", values


def update(
    connection: sqlite3.Connection, head: str, matching: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Update by `rows`. `head` is a statement up to its FROM, in which they are g."""
    for select, values in selections(connection, rows):
        connection.execute(f"{head} FROM ({select}) AS g WHERE {matching}", values)


def insert(connection: sqlite3.Connection, head: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert `rows`. `head` is a statement up to its values."""
    for sql, values in insertions(connection, head, rows):
        connection.execute(sql, values)


def selections(
    connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[str, list[Any]]]:
    """Queries, each with its values, that give `rows`, all of one length, as column1 to columnN.

    They come in few lengths, for each of them takes a place in the connection's cache.
    """
    if not rows:
        return
    width = len(rows[0])
    room = (connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) - 1) // width
    most = min(_MOST_ROWS, 1 << (room.bit_length() - 1))
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        count = len(part)
        values = [value for row in part for value in row]
        if count <= _EXACT:
            yield _placeholders(count, width), values
        else:
            length = 1 << (count - 1).bit_length()
            values.extend([None] * (width * (length - count)))
            values.append(count)
            yield f"SELECT * FROM ({_placeholders(length, width)}) LIMIT ?", values


@functools.cache
def _placeholders(rows: int, width: int) -> str:
    row = f"({','.join('?' * width)})"
    return f"VALUES {','.join([row] * rows)}"
