"""A SQLite file that can't be opened yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from muniment.errors import StoreUnavailable
from muniment.stores import open_store


async def test_reading_works_once_the_file_can_be_opened(tmp_path: Path) -> None:
    """Before that it says that the store is unavailable; then no write needs to come first."""
    directory = tmp_path / "later"
    store = open_store(f"sqlite:///{directory}/audit.db")
    with pytest.raises(StoreUnavailable):
        await store.open()
    with pytest.raises(StoreUnavailable):
        await store.stats()

    directory.mkdir()
    assert (await store.stats())["events"] == 0
    assert await store.read(None, 10) == []
    await store.close()
