"""An honest log, and what a superuser can do to a copy of it with SQL alone, in both dialects."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from muniment import Actor, AuditLog, Event, MunimentError, Outcome
from muniment.anchors import CheckpointDirectory
from muniment.evidence import verify_evidence
from muniment.fsck import Finding, Summary, fsck
from muniment.keys import SigningKey
from muniment.remembering import Finding as Seen
from muniment.remembering import watch_once
from muniment.sealing import Sealer
from muniment.stores import open_store
from muniment.stores.base import Sealed, Store
from tests.servers.postgres import Postgres

KEY = SigningKey.generate("example.com/audit")
TENANTS = ("acme", "acme", "globex", "acme", "initech", "globex")
"""Whose the events are, one after the other, over and over."""


class Honest(msgspec.Struct, frozen=True, kw_only=True):
    """A log that nobody has touched: each tenant's event_ids in the order of their leaves."""

    url: str
    events: dict[str, list[str]]
    older_note: str
    """An older checkpoint of acme."""
    newest_note: str
    size: int
    """How many leaves acme has."""
    older_size: int


async def record_honestly(url: str) -> Honest:
    """Record sixty events of three tenants, and have them signed for in two goes."""
    events: dict[str, list[str]] = {}
    async with AuditLog.open(url, signing_keys=[KEY], sequence_interval=0.02) as log:
        older = await _record(log, 42, events)
        newest = await _record(log, 18, events)
    size = len(events["acme"])
    assert older.tree_size < newest.tree_size == size
    return Honest(
        url=url,
        events=events,
        older_note=older.note,
        newest_note=newest.note,
        size=size,
        older_size=older.tree_size,
    )


async def _record(log: AuditLog, count: int, events: dict[str, list[str]]) -> Any:
    given = [
        Event(
            action="invoice.create",
            tenant_id=TENANTS[n % len(TENANTS)],
            actor=Actor.user(f"u{n % 7}", name="Ann"),
            outcome=Outcome.SUCCESS,
            details={"amount": n},
        )
        for n in range(count)
    ]
    receipts = await log.record_many(given)
    for receipt in receipts:
        events.setdefault(receipt.tenant_id, []).append(receipt.event_id)
    newest = {receipt.tenant_id: receipt for receipt in receipts}
    published = {t: await log.await_published(r) for t, r in newest.items()}
    return published["acme"]


class Tampered:
    """A copy of an honest log, with its triggers off, to do anything to.

    In `run`, `{events}` and such stand for the tables, and an event_id in braces for its literal.
    """

    def __init__(self, honest: Honest, url: str, server: Postgres | None = None) -> None:
        self.honest = honest
        self.url = url
        self.server = server
        self.is_sqlite = server is None
        self._switch_triggers_off()

    def run(self, sql: str, **ids: str) -> None:
        """Run statements, as the owner of the database. Each must succeed."""
        prefix = "muniment_" if self.is_sqlite else "muniment."
        names = ("events", "trees", "tiles", "bundles", "checkpoints", "sequencer_state")
        tables = {name: f"{prefix}{name}" for name in names}
        text = sql.format(**tables, **{name: self.literal(i) for name, i in ids.items()})
        if self.server is None:
            with sqlite3.connect(self.path) as connection:
                connection.executescript(f"BEGIN; {text}; COMMIT;")
            connection.close()
            return
        done = self.server.psql(f"BEGIN; {text}; COMMIT;", self.url.rpartition("/")[2])
        assert done.returncode == 0, done.stderr

    def literal(self, event_id: str) -> str:
        """An event_id in SQL."""
        return f"X'{event_id.replace('-', '')}'" if self.is_sqlite else f"'{event_id}'::uuid"

    @property
    def path(self) -> str:
        """The SQLite file."""
        return self.url.removeprefix("sqlite:///")

    def _switch_triggers_off(self) -> None:
        if self.server is not None:
            self.run(
                """
                DO $$ DECLARE one regclass; BEGIN
                    FOR one IN SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')
                        AND relnamespace = 'muniment'::regnamespace LOOP
                        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', one);
                    END LOOP;
                END $$
                """
            )
            return
        with sqlite3.connect(self.path) as connection:
            rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
            for (name,) in rows.fetchall():
                connection.execute(f"DROP TRIGGER {name}")
        connection.close()

    # --- the tamperings

    def edit_body(self, event_id: str) -> None:
        """Edit what happened, in the body alone."""
        sql = "UPDATE {events} SET body = replace(body, 'success', 'failure') WHERE event_id = {e}"
        self.run(sql, e=event_id)

    def edit_event(self, event_id: str) -> None:
        """Edit what happened, in the body, and in the columns that are derived from it."""
        sealed = forged("acme", event_id)
        self.run(
            f"UPDATE {{events}} SET body = '{_sql(sealed.body.decode())}', "
            f"terms = '{_sql(sealed.terms)}', leaf_hash = {self._bytes(sealed.leaf_hash)} "
            "WHERE event_id = {e}",
            e=event_id,
        )

    def edit_leaf(self, leaf_index: int, event_id: str) -> None:
        """Let a leaf of acme be the one of an event as it is now."""
        before, behind = 32 * leaf_index, 32 * leaf_index + 33
        hashes = (
            f"substr(hashes, 1, {before}) || (SELECT leaf_hash FROM {{events}} "
            f"WHERE event_id = {{e}}) || substr(hashes, {behind})"
        )
        self.run(
            f"UPDATE {{tiles}} SET hashes = {self._cast(hashes)} "
            "WHERE tenant_id = 'acme' AND level = 0 AND tile_index = 0",
            e=event_id,
        )

    def _cast(self, expression: str) -> str:
        return f"CAST({expression} AS BLOB)" if self.is_sqlite else f"({expression})"

    def delete(self, event_ids: Sequence[str]) -> None:
        """Delete events."""
        listed = ", ".join(self.literal(event_id) for event_id in event_ids)
        self.run(f"DELETE FROM {{events}} WHERE event_id IN ({listed})")

    def swap_positions(self, one: str, other: str) -> None:
        """Let two events have each other's place in the order of recording."""
        if self.is_sqlite:
            self.run(
                """
                CREATE TEMP TABLE swapped AS
                    SELECT event_id, seq FROM {events} WHERE event_id IN ({a}, {b});
                UPDATE {events} SET seq = -seq WHERE event_id IN ({a}, {b});
                UPDATE {events} SET seq = (SELECT seq FROM swapped WHERE event_id = {b})
                    WHERE event_id = {a};
                UPDATE {events} SET seq = (SELECT seq FROM swapped WHERE event_id = {a})
                    WHERE event_id = {b}
                """,
                a=one,
                b=other,
            )
        else:
            self.run(self._swap("epoch = o.epoch, xid = o.xid, seq = o.seq"), a=one, b=other)

    def set_sequencer_back(self, to: str) -> None:
        """Say that the events behind one have no leaf yet."""
        if self.is_sqlite:
            column, position = "seq", "seq"
        else:
            column, position = "last_position", "concat_ws('.', epoch, xid, seq)"
        self.run(
            f"UPDATE {{sequencer_state}} SET {column} = "
            f"(SELECT {position} FROM {{events}} WHERE event_id = {{to}})",
            to=to,
        )

    def swap_bodies(self, one: str, other: str) -> None:
        """Let two events have each other's body, and leave the columns."""
        self.run(self._swap("body = o.body"), a=one, b=other)

    def _swap(self, assignment: str) -> str:
        return (
            f"UPDATE {{events}} AS e SET {assignment} FROM {{events}} AS o "
            "WHERE (e.event_id = {a} AND o.event_id = {b}) "
            "OR (e.event_id = {b} AND o.event_id = {a})"
        )

    def insert(self, sealed: Sealed, *, behind: str | None) -> None:
        """Put in a whole, well-made event behind another one, or before all."""
        values = (
            f"'{sealed.tenant_id}', {{new}}, {self._bytes(sealed.leaf_hash)}, "
            f"'{_sql(sealed.terms)}', '{_sql(sealed.body.decode())}'"
        )
        columns = "tenant_id, event_id, leaf_hash, terms, body"
        if not self.is_sqlite:
            place = "(SELECT epoch, xid, seq FROM {events} WHERE event_id = {a}) AS o"
            # Within a transaction, seq orders.
            order = "o.epoch, o.xid, o.seq"
            if behind is None:
                place = "(VALUES (0::smallint, '7'::xid8, -5::bigint)) AS o (epoch, xid, seq)"
            self.run(
                f"INSERT INTO {{events}} ({columns}, epoch, xid, seq) "
                f"SELECT {values}, {order} FROM {place}",
                new=sealed.event_id,
                a=behind or sealed.event_id,
            )
            return
        if behind is None:
            self.run(
                f"INSERT INTO {{events}} (seq, {columns}) VALUES (-7, {values})",
                new=sealed.event_id,
            )
            return
        self.run(
            f"""
            CREATE TEMP TABLE place AS SELECT seq FROM {{events}} WHERE event_id = {{a}};
            UPDATE {{events}} SET seq = -seq WHERE seq > (SELECT seq FROM place);
            UPDATE {{events}} SET seq = 1 - seq WHERE seq < 0;
            INSERT INTO {{events}} (seq, {columns}) SELECT seq + 1, {values} FROM place;
            UPDATE {{sequencer_state}} SET seq = seq + 1
            """,
            new=sealed.event_id,
            a=behind,
        )

    def erase(self, event_id: str) -> None:
        """Erase an event, as the keeper does."""
        role = "" if self.is_sqlite else "SET LOCAL ROLE muniment_keeper;"
        self.run(f"{role} UPDATE {{events}} SET body = NULL WHERE event_id = {{e}}", e=event_id)

    def move(self, event_id: str, tenant_id: str) -> None:
        """Let an event be another tenant's."""
        self.run(
            f"UPDATE {{events}} SET tenant_id = '{tenant_id}' WHERE event_id = {{e}}", e=event_id
        )

    def roll_checkpoint_back(self) -> None:
        """Remove acme's newest checkpoints, so that an older one is the newest."""
        size = self.honest.older_size
        self.run(
            f"""
            UPDATE {{trees}} SET anchored_size = 0, published_size = {size}
                WHERE tenant_id = 'acme';
            DELETE FROM {{checkpoints}} WHERE tenant_id = 'acme' AND tree_size > {size}
            """
        )

    def replace_checkpoint(self) -> None:
        """Put acme's older checkpoint in the place of its newest."""
        self.run(
            f"UPDATE {{checkpoints}} SET note = '{self.honest.older_note}' "
            f"WHERE tenant_id = 'acme' AND tree_size = {self.honest.size}"
        )

    async def rebuild(self) -> None:
        """Build all trees over the events as they are now, and sign them with the true key."""
        nothing = "seq = 0" if self.is_sqlite else "epoch = 1, xid = '0', seq = 0"
        self.run(
            "DELETE FROM {trees}; DELETE FROM {tiles}; DELETE FROM {bundles}; "
            f"DELETE FROM {{checkpoints}}; UPDATE {{sequencer_state}} SET {nothing}"
        )
        async with AuditLog.open(self.url, signing_keys=[KEY], sequence_interval=0.02) as log:
            event = await log.record("login", tenant_id="umbrella")
            await log.await_published(event)

    def _bytes(self, value: bytes) -> str:
        return f"X'{value.hex()}'" if self.is_sqlite else f"'\\x{value.hex()}'::bytea"

    # --- the looking

    async def fsck(self, **options: Any) -> tuple[Summary, list[Finding]]:
        """What fsck says, with the public key."""
        found: list[Finding] = []
        async with opened(self.url) as store:
            options.setdefault("keys", [KEY.verifier])
            summary = await fsck(store, tell=found.append, **options)
        assert summary.findings == len(found)
        return summary, found

    async def watch(self, memory: Path) -> list[Seen]:
        """What `watch` says to whom the honest log's newest checkpoints are remembered."""
        directory = CheckpointDirectory(memory)
        async with opened(self.honest.url) as store:
            assert await watch_once(store.trees, directory, [KEY.verifier]) == []
        async with opened(self.url) as store:
            return await watch_once(store.trees, directory, [KEY.verifier])

    async def verify(self, directory: Path, old_checkpoint: str | None = None) -> str | None:
        """Why evidence of acme can't be exported and verified; None if it can."""
        path = directory / "acme.jsonl"
        try:
            async with AuditLog.open(self.url, sequence=False) as log:
                await log.export_evidence(path, tenant_id="acme")
            with path.open("rb") as file:
                verify_evidence(file, [KEY.verifier], old_checkpoint=old_checkpoint)
        except MunimentError as error:
            return str(error)
        return None


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """The store, open."""
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def forged(tenant_id: str, event_id: str | None = None) -> Sealed:
    """An event that never happened, well made."""
    event = Event(
        action="role_assign",
        tenant_id=tenant_id,
        actor=Actor.user("mallory"),
        outcome=Outcome.SUCCESS,
        event_id=event_id or "",
    )
    return Sealer().seal(event)


def _sql(text: str) -> str:
    """A text within quotes, in a template of `run`."""
    return text.replace("'", "''").replace("{", "{{").replace("}", "}}")


def build_honest(url: str) -> Honest:
    """An honest log in an empty database that has its schema, or a new SQLite file."""
    return asyncio.run(record_honestly(url))


def copies(honest: Honest, place: Path, server: Postgres | None) -> Iterator[Tampered]:
    """A copy of the honest log, which is gone at the end."""
    if server is None:
        path = place / "tampered.db"
        shutil.copy(honest.url.removeprefix("sqlite:///"), path)
        yield Tampered(honest, f"sqlite:///{path}")
        return
    name = server.create_database(honest.url.rpartition("/")[2])
    yield Tampered(honest, server.url(name), server)
    server.drop_database(name)
