"""What every test may ask for: an empty database of each kind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path

import hypothesis
import pytest

from muniment import AuditLog
from muniment.stores import open_store
from tests.scripted import LONG
from tests.servers.postgres import URL_VARIABLE, Postgres, PostgresMissing, PostgresServer
from tests.servers.shared import SharedPostgres

_GIVEN = pytest.StashKey[SharedPostgres]()

# How long an example takes is for the machine to say, and for what else it is at.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only this conftest is read early enough to add an option."""
    parser.addoption(
        "--all-rounds", action="store_true", help="inject each fault as often as `make faults` does"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Know the server that is given before any test begins."""
    url = os.environ.get(URL_VARIABLE)
    if url:
        try:
            config.stash[_GIVEN] = SharedPostgres(url)
        except PostgresMissing as missing:
            raise pytest.UsageError(str(missing)) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Wait for the given server here, where that is not yet the test's own time."""
    given = item.config.stash.get(_GIVEN, None)
    if given is None:
        return (yield)
    given.before(item, nextitem)
    result = yield
    given.after(item, nextitem)
    return result


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No setting of the developer's own shell reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            ours = name.startswith("MUNIMENT_") and not name.startswith("MUNIMENT_TEST_")
            if ours or name.startswith("PG") or name in {"FORCE_COLOR", "NO_COLOR"}:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """No store is late to a log that is given no deadline: on a busy machine it would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuditLog, "__init__", partialmethod(AuditLog.__init__, deadline=LONG))
        yield


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[Postgres]:
    """The PostgreSQL of this session, shared by its tests: none of them stops or changes it."""
    given = pytestconfig.stash.get(_GIVEN, None)
    if given:
        yield given
    else:
        with _missing_is_a_failure(), _quiet_server() as server:
            yield server


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A started PostgreSQL of the test's own, to be stopped, crashed and hung."""
    with _missing_is_a_failure(), _quiet_server() as server:
        yield server


def _quiet_server() -> PostgresServer:
    """Without the transactions of autovacuum, which hold up index and trees now and then."""
    return PostgresServer(autovacuum="off")


@contextmanager
def _missing_is_a_failure() -> Iterator[None]:
    try:
        yield
    except PostgresMissing as missing:
        raise pytest.fail.Exception(str(missing), pytrace=False) from None


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """A superuser's URL of an empty PostgreSQL database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Postgres) -> Iterator[str]:
    """The name of a database with the schema in place, to be copied."""
    name = postgres_server.create_database()

    async def upgrade() -> None:
        store = open_store(postgres_server.url(name))
        await store.upgrade()
        await store.close()

    asyncio.run(upgrade())
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_log_url(postgres_server: Postgres, postgres_template: str) -> Iterator[str]:
    """A superuser's URL of a PostgreSQL database that is ready to be recorded in."""
    name = postgres_server.create_database(postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite database that doesn't exist yet."""
    return f"sqlite:///{tmp_path / 'audit.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of each kind, one after the other."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def log_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of each kind that is ready to be recorded in."""
    name = {"sqlite": "sqlite_url", "postgres": "postgres_log_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url
