"""The PostgreSQL store."""

from muniment.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
