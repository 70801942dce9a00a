"""What a witness remembers: of each log, the last checkpoint that it cosigned.

One SQLite file, which any number of processes may share. What a method wrote is durable when it
returns; where it raised, it may have been written all the same, and the next look tells.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from muniment.errors import InvalidConfig, StoreError

_BUSY_SECONDS: Final = 5.0
_MOST_REFUSED: Final = 64
_APPLICATION: Final = 0x6D75_7769
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS checkpoints (
    origin_hash TEXT PRIMARY KEY CHECK (length(origin_hash) = 64),
    tree_size INTEGER NOT NULL CHECK (tree_size >= 0),
    root_hash BLOB NOT NULL CHECK (length(root_hash) = 32),
    note TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS checkpoints_only_grow BEFORE UPDATE ON checkpoints
WHEN NEW.tree_size < OLD.tree_size
    OR NEW.tree_size = OLD.tree_size AND NEW.root_hash <> OLD.root_hash
BEGIN
    SELECT RAISE(ABORT, 'a cosigned checkpoint is never rolled back');
END;
CREATE TABLE IF NOT EXISTS refused (
    origin_hash TEXT NOT NULL,
    tree_size INTEGER NOT NULL,
    root_hash BLOB NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (origin_hash, tree_size, root_hash)
) STRICT, WITHOUT ROWID;
"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that was cosigned. The note bears the log's signatures and the cosignature."""

    tree_size: int
    root_hash: bytes
    note: str


class Ledger:
    """A witness's memory in the file at `path`, which is made if it isn't there.

    Any thread may use it. Raises `InvalidConfig` if the file is something else, and `StoreError`
    if it can't be read or written, from any method.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        try:
            # Only the witness's own user has anything to do here.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path}: {error}") from None

    def _prepare(self) -> None:
        try:
            (found,) = self._connection.execute("PRAGMA application_id").fetchone()
            is_new = self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if error.sqlite_errorname != "SQLITE_NOTADB":
                raise
            found, is_new = 0, False
        if found != _APPLICATION and not is_new:
            self._connection.close()
            raise InvalidConfig(f"{self._path} is no witness's file; name another one")
        # Each commit reaches the disk before it returns, the directory's entries included.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        self._connection.executescript(_SCHEMA)
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def latest(self, origin: str) -> Seen | None:
        """The last checkpoint of a log that was cosigned."""
        return self.by_hash(origin_hash(origin))

    def by_hash(self, hashed_origin: str) -> Seen | None:
        """The same, by the SHA-256 of the origin in lower-case hexadecimal."""
        rows = self._execute(
            "SELECT tree_size, root_hash, note FROM checkpoints WHERE origin_hash = ?",
            (hashed_origin,),
        )
        return Seen(tree_size=rows[0][0], root_hash=rows[0][1], note=rows[0][2]) if rows else None

    def replace(self, origin: str, before: Seen | None, now: Seen) -> bool:
        """Remember `now` in place of `before`; False, and nothing is done, if that isn't the last.

        One durable step: of two that replace the same one, at most one is told True. On disk is the
        one before or the one after, and a restart goes on from there.
        """
        hashed = origin_hash(origin)
        values = (now.tree_size, now.root_hash, now.note, hashed)
        if before is None:
            rows = self._execute(
                "INSERT INTO checkpoints (tree_size, root_hash, note, origin_hash) "
                "VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
                values,
            )
        else:
            rows = self._execute(
                "UPDATE checkpoints SET tree_size = ?, root_hash = ?, note = ? "
                "WHERE origin_hash = ? AND tree_size = ? AND root_hash = ? RETURNING 1",
                (*values, before.tree_size, before.root_hash),
            )
        return bool(rows)

    def keep_refused(self, origin: str, tree_size: int, root_hash: bytes, note: str) -> None:
        """Keep a signed checkpoint that did not fit: it may prove what the log did.

        The first of each size and root, and no more than 64 of a log; but of the size that was
        cosigned last, where another root is a fork, 64 in any case: anybody can send old ones.
        """
        hashed = origin_hash(origin)
        self._execute(
            "INSERT INTO refused SELECT ?1, ?2, ?3, ?4 WHERE ?5 > (SELECT count(*) FROM refused "
            "WHERE origin_hash = ?1 AND (tree_size = ?2 OR NOT EXISTS (SELECT 1 FROM checkpoints "
            "WHERE origin_hash = ?1 AND tree_size = ?2))) ON CONFLICT DO NOTHING",
            (hashed, tree_size, root_hash, note, _MOST_REFUSED),
        )

    def count(self) -> int:
        """How many logs are remembered."""
        return int(self._execute("SELECT count(*) FROM checkpoints", ())[0][0])

    def refused(self, origin: str) -> list[str]:
        """The notes that `keep_refused` kept of a log, in order of their size."""
        rows = self._execute(
            "SELECT note FROM refused WHERE origin_hash = ? ORDER BY tree_size, root_hash",
            (origin_hash(origin),),
        )
        return [row[0] for row in rows]

    def close(self) -> None:
        """Let go of the file. It is not used again."""
        with self._lock:
            self._connection.close()

    def _execute(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: {error}") from None


def origin_hash(origin: str) -> str:
    """The SHA-256 of an origin in hexadecimal, as tlog-witness has it in URLs."""
    return hashlib.sha256(origin.encode()).hexdigest()
