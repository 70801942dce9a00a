"""Every test has a default log of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from muniment import configure, default_log
from tests.default_log.recorded import upgrade


@pytest.fixture(autouse=True)
def _default_log_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    default = default_log._DefaultLog()
    monkeypatch.setattr(default_log, "_default", default)
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path / "spool"))
    yield
    default.end(for_good=False)


@pytest.fixture
def url(store_url: str) -> Iterator[str]:
    """A store of each kind, ready; the default log is over it."""
    asyncio.run(upgrade(store_url))
    configure(store_url)
    yield store_url
    default_log._default.end(for_good=False)
