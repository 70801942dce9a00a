"""A PostgreSQL database as a careful administrator sets it up, for the tests of its rights."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from muniment import Actor, AuditLog, Event
from muniment.stores import open_store
from tests.servers.postgres import Postgres

OLD = datetime(2021, 5, 17, 8, 30, tzinfo=UTC)
LATER_PARTITION = "events_2021_05"


class Secured:
    """A database with events of two tenants, and the roles that may or may not see them.

    `installer` owns the schema and is no superuser. `acme_writer` and `acme_reader` are bound to
    the tenant acme, `all_reader` to every tenant, `unbound_writer` to none. `sequencer` may write
    trees, and is bound to no tenant.
    """

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.database = server.create_database()
        self.installer = server.create_role("CREATEROLE")
        self.acme_writer, self.acme_reader, self.all_reader, self.unbound_writer, self.keeper = (
            server.create_role() for _ in range(5)
        )
        self.sequencer = server.create_role()

    def run(self, sql: str, role: str | None = None) -> subprocess.CompletedProcess[str]:
        """What psql says, as the superuser or as `role`."""
        return self.server.psql(sql, self.database, role)

    def answer(self, sql: str, role: str | None = None) -> list[str]:
        """The lines that psql prints; it must succeed."""
        done = self.run(sql, role)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def url(self, role: str | None = None) -> str:
        """The database's URL for a role."""
        return self.server.url(self.database, role)

    def install(self) -> None:
        """Make the schema, bind the roles, and record some events."""
        self.answer(f"GRANT CREATE ON DATABASE {self.database} TO {self.installer}")
        asyncio.run(_upgrade(self.url(self.installer)))
        self.answer(
            f"GRANT muniment_writer TO {self.acme_writer}, {self.unbound_writer};"
            f"GRANT muniment_reader TO {self.acme_reader}, {self.all_reader};"
            f"GRANT muniment_keeper TO {self.keeper};"
            f"GRANT muniment_sequencer TO {self.sequencer};"
        )
        self.answer(
            f"SELECT muniment.bind_role('{self.acme_writer}', 'acme');"
            f"SELECT muniment.bind_role('{self.acme_reader}', 'acme');"
            f"SELECT muniment.bind_role('{self.all_reader}', NULL);",
            self.installer,
        )
        asyncio.run(_record(self.url()))

    def remove(self) -> None:
        """Drop it all."""
        self.server.drop_database(self.database)
        for role in (
            self.installer,
            self.acme_writer,
            self.acme_reader,
            self.all_reader,
            self.unbound_writer,
            self.keeper,
            self.sequencer,
        ):
            self.server.drop_role(role)


async def _upgrade(url: str) -> None:
    store = open_store(url)
    await store.upgrade()
    await store.close()


async def _record(url: str) -> None:
    """Two events now and one in a month whose partition is made for it, for each tenant."""
    async with AuditLog.open(url, sequence=False) as log:
        for tenant in ("acme", "globex"):
            fields: dict[str, Any] = {"tenant_id": tenant, "actor": Actor.user(f"{tenant}-u1")}
            await log.record_many(
                [
                    Event(action="login", idempotency_key=f"{tenant}-k1", **fields),
                    Event(action=f"{tenant}.secret", **fields),
                    Event(action="login", occurred_at=OLD, **fields),
                ]
            )
            await log.record("login", idempotency_key=f"{tenant}-k2", **fields)
    store = open_store(url)
    while await store.index_pending(100):
        pass
    await store.close()


@contextmanager
def secured(server: Postgres) -> Iterator[Secured]:
    """Such a database, dropped at the end."""
    place = Secured(server)
    try:
        place.install()
        yield place
    finally:
        place.remove()
