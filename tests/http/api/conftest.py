"""What the tests of the API may ask for: the application in this process, with real tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from muniment.keys import SigningKey
from tests.http.api.calling import Api, running


@pytest.fixture
async def api(sqlite_url: str) -> AsyncIterator[Api]:
    """The application over an empty SQLite log that signs its checkpoints."""
    key = SigningKey.from_seed("example.com/audit", b"1" * 32)
    async with running(sqlite_url, signing_keys=[key]) as found:
        yield found
