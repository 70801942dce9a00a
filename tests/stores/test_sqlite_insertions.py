"""Many rows in few statements: all arrive, whatever their number and the library's limits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from muniment.stores.sqlite.insertions import insertions

INSERT = "INSERT INTO numbers (n, square)"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A connection to a table of numbers, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE numbers (n INTEGER NOT NULL, square INTEGER)")
        yield connection


@pytest.mark.parametrize("count", [0, 1, 32, 33, 64, 65, 2_047, 2_048, 2_049, 5_000])
def test_all_rows_arrive_in_their_order(connection: sqlite3.Connection, count: int) -> None:
    """As many rows as were given are inserted, none of them padding."""
    rows = [(n, n * n) for n in range(count)]
    for sql, values in insertions(connection, INSERT, rows):
        connection.execute(sql, values)
    assert connection.execute("SELECT n, square FROM numbers ORDER BY rowid").fetchall() == rows


def test_a_library_that_takes_few_variables_gets_smaller_statements(
    connection: sqlite3.Connection,
) -> None:
    """999 variables, the limit before SQLite 3.32, are enough."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    rows = [(n, n * n) for n in range(1_500)]
    for sql, values in insertions(connection, INSERT, rows):
        connection.execute(sql, values)
    assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (1_500,)


def test_statements_come_in_few_lengths(connection: sqlite3.Connection) -> None:
    """Whatever the number of rows, the connection's cache holds few statements."""
    texts = {
        sql
        for count in range(1, 2_049)
        for sql, _ in insertions(connection, INSERT, [(1, 1)] * count)
    }
    assert len(texts) == 32 + 6
