"""Writes events and their index through a SQLite connection: ours, or one in the caller's hands."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from muniment.event_id import event_id_of
from muniment.query import TERM_SEPARATOR
from muniment.stores.base import Sealed, StoredEvent
from muniment.stores.schema import EVERY_EVENT
from muniment.stores.sqlite.insertions import insertions

_EVENTS: Final = "INSERT INTO muniment_events (tenant_id, event_id, leaf_hash, terms, body)"
_POSTINGS: Final = "INSERT OR IGNORE INTO muniment_postings (tenant_id, term, event_id)"
_ACTIONS: Final = "INSERT OR IGNORE INTO muniment_actions (tenant_id, action)"
STORED: Final = "SELECT tenant_id, event_id, leaf_hash, body FROM muniment_events"


def append(connection: sqlite3.Connection, batch: Sequence[Sealed]) -> dict[int, StoredEvent]:
    """Store the batch in one transaction; what was there is returned by its place in the batch."""
    if not any(event.key for event in batch):
        statements = list(insertions(connection, _EVENTS, list(map(_columns, batch))))
        try:
            # A single statement is a transaction of its own.
            with transaction(connection) if len(statements) > 1 else contextlib.nullcontext():
                for sql, values in statements:
                    connection.execute(sql, values)
        except sqlite3.IntegrityError:
            pass  # some may be there already
        else:
            return {}
    with transaction(connection):
        return {
            n: found
            for n, event in enumerate(batch)
            if (found := append_one(connection, event)) is not None
        }


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that may write from its start; rolled back if it does not end well."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def append_one(connection: sqlite3.Connection, event: Sealed) -> StoredEvent | None:
    """Insert unless it is there; what is there already is returned."""
    event_id = blob(event.event_id)
    if event.key is not None:
        kept = connection.execute(
            "SELECT event_id FROM muniment_idempotency_keys WHERE tenant_id = ? AND key = ?",
            (event.tenant_id, event.key),
        ).fetchone()
        if kept is None:
            connection.execute(
                "INSERT INTO muniment_idempotency_keys (tenant_id, key, event_id) VALUES (?,?,?)",
                (event.tenant_id, event.key, event_id),
            )
        else:
            event_id = kept[0]
    there = connection.execute(
        f"{STORED} WHERE tenant_id = ? AND event_id = ?", (event.tenant_id, event_id)
    ).fetchone()
    if there is not None:
        return stored(there)
    ((sql, values),) = insertions(connection, _EVENTS, [_columns(event)])
    connection.execute(sql, values)
    return None


def index(connection: sqlite3.Connection, limit: int) -> int:
    """Index up to `limit` events; returns how many."""
    with transaction(connection):
        (start,) = connection.execute("SELECT seq FROM muniment_index_state").fetchone()
        rows = connection.execute(
            "SELECT seq, tenant_id, event_id, terms FROM muniment_events WHERE seq >= ? "
            "ORDER BY seq LIMIT ?",
            (start, limit),
        ).fetchall()
        if rows:
            _index_rows(connection, rows)
    return len(rows)


def _index_rows(
    connection: sqlite3.Connection, rows: Sequence[tuple[int, str, bytes, str]]
) -> None:
    postings, actions = [], set()
    for _, tenant_id, event_id, terms in rows:
        listed = terms.split(TERM_SEPARATOR)[1:-1]
        actions.add((tenant_id, listed[0].removeprefix("action:")))
        postings.append((tenant_id, EVERY_EVENT, event_id))
        postings.extend((tenant_id, term, event_id) for term in listed)
    postings.sort()  # neighbours in the index are written together
    for sql, values in (
        *insertions(connection, _POSTINGS, postings),
        *insertions(connection, _ACTIONS, sorted(actions)),
    ):
        connection.execute(sql, values)
    connection.execute("UPDATE muniment_index_state SET seq = ?", (rows[-1][0] + 1,))


def _columns(event: Sealed) -> tuple[str, bytes, bytes, str, str]:
    return (
        event.tenant_id,
        blob(event.event_id),
        event.leaf_hash,
        event.terms,
        event.body.decode(),
    )


def blob(event_id: str) -> bytes:
    """The 16 bytes of an event_id."""
    return bytes.fromhex(event_id.replace("-", ""))


def stored(row: Sequence[Any]) -> StoredEvent:
    """The event of (tenant_id, event_id, leaf_hash, body)."""
    return StoredEvent(row[0], event_id_of(row[1]), row[2], row[3])
