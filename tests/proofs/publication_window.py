"""How long an event can be altered before a signed checkpoint is over it, measured.

    python -m tests.proofs.publication_window sqlite
    python -m tests.proofs.publication_window postgres

Ten tenants record, one event after the other; the longest and the usual time from the call of
`record` to a published checkpoint over the event are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muniment import Actor, AuditLog
from muniment.keys import SigningKey
from muniment.stores import open_store
from tests.servers.postgres import PostgresServer

_TENANTS = 10
_LOOK = 0.01


class Window:
    """When each event of each tenant was recorded, and how long it then took to be published."""

    def __init__(self) -> None:
        self.began: dict[str, list[float]] = {f"t{n}": [] for n in range(_TENANTS)}
        self.took: list[float] = []
        self._published = dict.fromkeys(self.began, 0)

    async def record(self, log: AuditLog, tenant_id: str, rate: float, until: float) -> None:
        """Record at a steady rate. The n-th event of a tenant is its n-th leaf."""
        due = time.monotonic()
        while (now := time.monotonic()) < until:
            due = max(due + 1 / rate, now)
            await asyncio.sleep(due - now)
            self.began[tenant_id].append(time.monotonic())
            await log.record(
                "invoice.update",
                tenant_id=tenant_id,
                actor=Actor.user("u1", name="Ann"),
                details={"amount": 100, "currency": "EUR"},
            )

    async def look(self, url: str) -> None:
        """Note what is published, by a connection of its own, until all is."""
        store = open_store(url)
        await store.open()
        try:
            while sum(self._published.values()) < sum(map(len, self.began.values())) or not (
                self.took
            ):
                trees = await store.trees.trees(None, _TENANTS)
                now = time.monotonic()
                for tree in trees:
                    tenant_id, size = tree.tenant_id, tree.published_size
                    began = self.began[tenant_id][self._published[tenant_id] : size]
                    self.took += [now - moment for moment in began]
                    self._published[tenant_id] = size
                await asyncio.sleep(_LOOK)
        finally:
            await store.close()


async def measure(url: str, *, seconds: float, rate: float) -> Window:
    """Record `rate` events a second for so long, and wait until all are published."""
    store = open_store(url)
    await store.upgrade()
    await store.close()
    window = Window()
    key = SigningKey.generate("example.com/audit")
    async with AuditLog.open(url, signing_keys=[key]) as log:
        until = time.monotonic() + seconds
        looking = asyncio.create_task(window.look(url))
        await asyncio.gather(*(window.record(log, t, rate / _TENANTS, until) for t in window.began))
        await looking
    return window


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield f"sqlite:///{Path(directory) / 'audit.db'}"
    else:
        with PostgresServer() as server:
            yield server.url(server.create_database())


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", choices=["sqlite", "postgres"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    given = parser.parse_args()
    with _database(given.store) as url:
        took = asyncio.run(measure(url, seconds=given.seconds, rate=given.rate)).took
    sys.stdout.write(
        f"{given.store}: {len(took):,} events in {given.seconds:.0f} s; from record to published "
        f"{statistics.median(took):.2f} s usually, {max(took):.2f} s at most\n"
    )


if __name__ == "__main__":
    main()
