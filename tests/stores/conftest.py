"""What the tests of stores may ask for besides databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def pgbouncer(postgres_server: Postgres) -> Iterator[PgBouncer]:
    """A pooler before the session's PostgreSQL: two connections for each database and role."""
    with PgBouncer(postgres_server) as bouncer:
        yield bouncer
