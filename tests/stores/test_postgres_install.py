"""The schema is installed by ordinary roles, as a managed database has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from muniment.errors import StoreError
from muniment.stores import open_store
from muniment.stores.base import SchemaStatus
from tests.servers.postgres import Postgres, PostgresServer
from tests.stores.secured import Secured, secured


async def _upgrade(url: str) -> SchemaStatus:
    store = open_store(url)
    try:
        return await store.upgrade()
    finally:
        await store.close()


async def test_the_owner_of_a_database_installs(private_postgres: PostgresServer) -> None:
    """On a server that has never seen it: CREATEDB and CREATEROLE are all it takes."""
    owner = private_postgres.create_role("CREATEDB CREATEROLE")
    made = private_postgres.psql("CREATE DATABASE audit", user=owner)
    assert made.returncode == 0, made.stderr
    assert (await _upgrade(private_postgres.url("audit", owner))).is_current


async def test_an_owner_that_may_not_make_roles(private_postgres: PostgresServer) -> None:
    """It is told which roles to have made, leaves nothing behind, and installs once they are."""
    owner = private_postgres.create_role("CREATEDB")
    private_postgres.psql("CREATE DATABASE audit", user=owner)
    url = private_postgres.url("audit", owner)
    with pytest.raises(StoreError, match=r"CREATEROLE, or finds the roles muniment_writer, "):
        await _upgrade(url)
    left = private_postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'muniment'")
    private_postgres.psql(
        "CREATE ROLE muniment_writer; CREATE ROLE muniment_reader; CREATE ROLE muniment_keeper;"
        "CREATE ROLE muniment_sequencer; CREATE ROLE muniment_service"
    )
    assert (left.stdout, (await _upgrade(url)).is_current) == ("0\n", True)


async def test_a_role_that_may_create_nothing(postgres_server: Postgres, postgres_url: str) -> None:
    """It is told what it takes, in place of a driver's traceback."""
    role = postgres_server.create_role()
    url = postgres_server.url(postgres_url.rpartition("/")[2], role)
    with pytest.raises(StoreError, match=r"permission denied .*may CREATE in the database"):
        await _upgrade(url)
    postgres_server.drop_role(role)


@pytest.fixture
def place(postgres_server: Postgres) -> Iterator[Secured]:
    """A database with the schema in place."""
    with secured(postgres_server) as place:
        yield place


async def test_nothing_to_migrate_needs_no_rights(place: Secured) -> None:
    """An application that migrates at its start may do so with its own role."""
    assert (await _upgrade(place.url(place.acme_writer))).is_current
