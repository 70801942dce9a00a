"""What the tests of proofs may ask for: an honest log, and copies of it to tamper with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proofs.tampering import Honest, Tampered, build_honest, copies
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def sqlite_honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """An honest log in a SQLite file."""
    return build_honest(f"sqlite:///{tmp_path_factory.mktemp('honest') / 'audit.db'}")


@pytest.fixture(scope="session")
def postgres_honest(postgres_server: Postgres, postgres_template: str) -> Iterator[Honest]:
    """An honest log in PostgreSQL."""
    name = postgres_server.create_database(postgres_template)
    yield build_honest(postgres_server.url(name))
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tampered]:
    """A copy of the honest log in each kind of store, its triggers off."""
    honest = request.getfixturevalue(f"{request.param}_honest")
    is_sqlite = request.param == "sqlite"
    server = None if is_sqlite else request.getfixturevalue("postgres_server")
    yield from copies(honest, tmp_path, server)
