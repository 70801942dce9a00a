"""What the tests of access may ask for: the application in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.http.auth.calling import Site, serving
from tests.http.auth.issuer import Issuer


@pytest.fixture
async def site(sqlite_url: str) -> AsyncIterator[Site]:
    """The application over an empty SQLite log."""
    async with serving(sqlite_url) as found:
        yield found


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An OpenID Connect issuer that is up."""
    with Issuer() as running:
        yield running
