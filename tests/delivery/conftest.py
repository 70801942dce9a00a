"""What the tests of delivery may ask for: logs over a store that can be made to fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.delivery.deliveries import Opened, opening


@pytest.fixture
async def opened(store_url: str, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens logs over the same store, one of each kind, and the same spool."""
    async with opening(store_url, tmp_path / "spool") as opened:
        yield opened


@pytest.fixture
async def opened_on_sqlite(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Opened]:
    """The same for what happens before a store comes into it: SQLite is quickly made."""
    async with opening(sqlite_url, tmp_path / "spool") as opened:
        yield opened
