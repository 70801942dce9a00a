"""A PostgreSQL that stands still while its trees are read and grown: nobody waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from muniment import AuditLog
from muniment.errors import StoreUnavailable
from muniment.growing import grow
from muniment.stores import open_store
from muniment.stores.base import Selection, Store
from muniment.testing.contract import sealed
from tests.servers.postgres import PostgresServer
from tests.stores.leaves import integrate_all, leaves_of

_SOON = 30.0
"""Seconds: all that anybody waits for a server that hangs, one thing after the other."""


@pytest.fixture
def url(private_postgres: PostgresServer) -> str:
    """A superuser's URL of an empty database of the test's own server."""
    return private_postgres.url(private_postgres.create_database())


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store with an event, whose connection is made."""
    store = open_store(url, migrate=True)
    await store.open()
    await store.append([sealed(1)])
    await store.trees.lag()
    yield store
    await store.close()


_CALLS: dict[str, Callable[[Store], Coroutine[Any, Any, object]]] = {
    "integrates": lambda store: store.trees.integrate(10, grow),
    "publishes": lambda store: store.trees.publish([]),
    "reads a tree": lambda store: store.trees.tree("acme"),
    "measures the lag": lambda store: store.trees.lag(),
    "reads a page": lambda store: store.read(None, 10),
}


@pytest.mark.parametrize("call", _CALLS)
async def test_who_is_cancelled_does_not_wait_for_the_server(
    store: Store, private_postgres: PostgresServer, call: str
) -> None:
    """The call ends as cancelled although the server confirms nothing; the store goes on after."""
    with private_postgres.hung():
        task = asyncio.create_task(_CALLS[call](store))
        await asyncio.wait({task}, timeout=0.2)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=_SOON)
        assert done
        assert task.cancelled()
    assert await store.trees.integrate(10, grow) == 1


async def test_a_log_that_sequences_closes_over_a_server_that_hangs(
    store: Store, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """A process can end; what its sequencer was at is left to the next."""
    log = AuditLog.open(store.url, sequence_interval=0.01, spool_dir=tmp_path)
    with ExitStack() as stack:
        async with asyncio.timeout(_SOON), log:
            await log.record("login", tenant_id="acme")
            stack.enter_context(private_postgres.hung())
    await integrate_all(store)
    assert len(await leaves_of(store, "acme")) == 2


async def test_long_searches_keep_nobody_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls is known at once while searches take long; one search too many is told."""
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any) -> list[Any]:
        begun.set()
        await goes_on.wait()
        return []

    await asyncio.gather(*(store.trees.lag() for _ in range(4)))  # all connections are made
    monkeypatch.setattr("muniment.stores.postgres.store.select_with", slow)
    monkeypatch.setattr(store, "_connect_timeout", 0.2)
    wanted = Selection(tenant_id=None, clauses=(), order="newest", limit=1)
    searches = [asyncio.create_task(store.select(wanted)) for _ in range(10)]
    async with asyncio.timeout(_SOON):
        await begun.wait()
        assert await store.credentials.find(b"x" * 32) is None
        done, _ = await asyncio.wait(searches, return_when=asyncio.FIRST_EXCEPTION)
        goes_on.set()
        ended = await asyncio.gather(*searches, return_exceptions=True)
    assert done
    assert {type(each) for each in ended} == {list, StoreUnavailable}
