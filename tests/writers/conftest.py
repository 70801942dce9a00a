"""Every test has a default log of its own, and a store for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from muniment import configure, default_log
from muniment.stores import open_store


@pytest.fixture(autouse=True)
def _default_log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    default = default_log._DefaultLog()
    monkeypatch.setattr(default_log, "_default", default)
    yield
    default.end(for_good=False)


@pytest.fixture
async def url(store_url: str) -> AsyncIterator[str]:
    """A store of each kind, ready, that the default log is over."""
    store = open_store(store_url)
    await store.upgrade()
    await store.close()
    configure(store_url)
    yield store_url
    await asyncio.to_thread(default_log._default.end, for_good=False)


@pytest.fixture
def quick_url(sqlite_url: str) -> str:
    """A SQLite store that the default log is over, for what no store has a part in."""
    configure(sqlite_url)
    return sqlite_url
