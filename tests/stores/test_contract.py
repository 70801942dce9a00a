"""Both stores keep the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.testing.contract import StoreContract
from tests.servers.pgbouncer import PgBouncer


class TestSqliteStore(StoreContract):
    """SQLite."""

    @pytest.fixture
    def new_store(self, sqlite_url: str) -> Callable[[], Store]:
        """Stores over one file."""
        return lambda: open_store(sqlite_url)


class TestPostgresStore(StoreContract):
    """PostgreSQL, written to as a superuser: through COPY."""

    @pytest.fixture
    def new_store(self, postgres_url: str) -> Callable[[], Store]:
        """Stores over one database."""
        return lambda: open_store(postgres_url)


class TestPostgresStoreWithoutCopy(StoreContract):
    """PostgreSQL, written to as a role that row security binds: through unnest."""

    @pytest.fixture
    def new_store(self, postgres_url: str) -> Callable[[], Store]:
        """Stores over one database."""
        return lambda: open_store(postgres_url, copy=False)


class TestPostgresStoreBehindAPooler(StoreContract):
    """PostgreSQL, through a pooler that lends connections for a transaction."""

    @pytest.fixture
    def new_store(self, postgres_url: str, pgbouncer: PgBouncer) -> Callable[[], Store]:
        """Stores over one database, each with more connections than there are to the server."""
        return lambda: open_store(pgbouncer.through(postgres_url))
