"""A log to watch, over a store of each kind that can be made to fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muniment import AuditLog
from muniment.stores import open_store
from muniment.testing import FaultyStore
from tests.scripted import LONG


@pytest.fixture
def store(log_url: str) -> FaultyStore:
    """The store under `log`."""
    return FaultyStore(open_store(log_url))


@pytest.fixture
def spool_directory(tmp_path: Path) -> Path:
    """Where `log` has its spool."""
    return tmp_path / "spool"


@pytest.fixture
async def log(store: FaultyStore, spool_directory: Path) -> AsyncIterator[AuditLog]:
    """An open log whose queue holds ten emitted events and drops what is over that."""
    async with AuditLog(
        store, spool_dir=spool_directory, deadline=LONG, max_queue=10, overflow="drop"
    ) as log:
        yield log
        store.heal()
