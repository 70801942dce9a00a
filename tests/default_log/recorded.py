"""What the default log has recorded and spooled."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from muniment import AuditLog
from muniment.spool import Spool
from muniment.stores import open_store

PATIENCE = 60.0


async def upgrade(url: str) -> None:
    """Make the schema."""
    store = open_store(url)
    await store.upgrade()
    await store.close()


async def _actions(log: AuditLog) -> list[str]:
    page = await log.search(order="oldest", limit=500)
    return sorted(event.action for event in page.events)


async def actions_in(url: str) -> list[str]:
    """The actions recorded in a store, sorted."""
    async with AuditLog.open(url) as log:
        return await _actions(log)


async def wait_for_actions(url: str, wanted: list[str]) -> None:
    """Wait until the store has these actions: what is in the spool comes there by itself."""
    until = time.monotonic() + PATIENCE
    async with AuditLog.open(url) as log:
        while True:
            found = await _actions(log)
            if found == wanted:
                return
            assert time.monotonic() < until, found
            await asyncio.sleep(0.05)


def spooled(directory: Path) -> list[str]:
    """The bodies that wait in the spools under a directory."""
    bodies = []
    for base in directory.iterdir():
        spool = Spool(base)
        spool.adopt_orphans()
        bodies += [sealed.body.decode() for sealed in spool.peek(1000)]
        spool.close()
    return bodies


def nowhere() -> str:
    """The URL of a PostgreSQL that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"postgresql://nobody@127.0.0.1:{port}/nothing"
