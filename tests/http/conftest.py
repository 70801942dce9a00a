"""What the tests of the service may ask for: a log that is really served."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers.muniment import PatientlyServed, Served
from tests.servers.patient import give_time
from tests.servers.postgres import Postgres

Serve = Callable[..., Served]


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is asked of an application in this process is cut short."""
    give_time(monkeypatch.setattr)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts `muniment serve`, with what `Served` takes; it is ended after the test."""
    running: list[Served] = []

    def start(store_url: str, *arguments: object, **settings: str) -> Served:
        running.append(PatientlyServed(store_url, *arguments, **settings))
        return running[-1]

    yield start
    for served in running:
        served.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served SQLite log, shared by the tests of a module: each keeps to tenants of its own."""
    database = tmp_path_factory.mktemp("served") / "audit.db"
    with PatientlyServed(f"sqlite:///{database}") as running:
        yield running


@pytest.fixture(scope="module")
def served_postgres(
    postgres_server: Postgres, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A served PostgreSQL log, shared by the tests of a module."""
    name = postgres_server.create_database(postgres_template)
    spool = tmp_path_factory.mktemp("spool")
    with PatientlyServed(postgres_server.url(name), MUNIMENT_SPOOL_DIR=str(spool)) as running:
        yield running
    postgres_server.drop_database(name)
