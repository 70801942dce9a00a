"""What the tests of sequencing may ask for: a store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from muniment.stores import open_store
from muniment.stores.base import Store


@pytest.fixture
async def store(log_url: str) -> AsyncIterator[Store]:
    """An open store without events."""
    store = open_store(log_url)
    await store.open()
    yield store
    await store.close()
