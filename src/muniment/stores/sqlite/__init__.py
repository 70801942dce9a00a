"""The SQLite store."""

from muniment.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
