"""What the tests of proofs may ask for: logs and evidence to tamper with, and a witness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muniment.witness import Ledger, Witness
from tests.proofs.evidence_edits import LEAVES
from tests.proofs.evidence_files import write
from tests.proofs.tampering import Honest, Tampered, build_honest, copies
from tests.proofs.trails import LOG_KEY, WITNESS_KEY
from tests.proofs.witnessing import NOW
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An evidence file of all that is in a log."""
    return write(tmp_path_factory.mktemp("whole") / "evidence", LEAVES)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One of leaves 6 to 17 without 10 to 12, one of them erased, with an older checkpoint."""
    chosen = [6, 7, 8, 9, 13, 14, 15, 16, 17]
    path = tmp_path_factory.mktemp("part") / "evidence"
    return write(path, LEAVES, chosen, erased=[8], old_size=9)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The empty memory of a witness."""
    ledger = Ledger(tmp_path / "witness.db")
    yield ledger
    ledger.close()


@pytest.fixture
def witness(ledger: Ledger) -> Witness:
    """A witness that has seen nothing yet."""
    return Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger, clock=lambda: NOW)
