"""Both stores' counts keep the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.testing.counts_contract import CountsContract
from tests.servers.pgbouncer import PgBouncer


class TestSqliteCounts(CountsContract):
    """SQLite."""

    @pytest.fixture
    def new_store(self, sqlite_url: str) -> Callable[[], Store]:
        """Stores over one file."""
        return lambda: open_store(sqlite_url)


class TestPostgresCounts(CountsContract):
    """PostgreSQL."""

    @pytest.fixture
    def new_store(self, postgres_log_url: str) -> Callable[[], Store]:
        """Stores over one database."""
        return lambda: open_store(postgres_log_url)


class TestPostgresCountsBehindAPooler(CountsContract):
    """PostgreSQL, through a pooler that lends connections for a transaction."""

    @pytest.fixture
    def new_store(self, postgres_log_url: str, pgbouncer: PgBouncer) -> Callable[[], Store]:
        """Stores over one database, each with more connections than there are to the server."""
        return lambda: open_store(pgbouncer.through(postgres_log_url))
