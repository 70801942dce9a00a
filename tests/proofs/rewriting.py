"""What the owner of a SQLite file can do to a log in it."""

from __future__ import annotations

import sqlite3


def rewrite(url: str, *statements: str) -> None:
    """Drop the triggers, and write what one likes; each statement must change something."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in rows.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert connection.execute(statement).rowcount
    connection.close()
