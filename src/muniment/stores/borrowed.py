"""Finds the driver's own connection under the one that a caller lends for its transaction."""

from __future__ import annotations

from typing import Any


async def driver_connection(connection: Any) -> Any:
    """The driver's connection under an SQLAlchemy session or connection; else what was given."""
    if hasattr(connection, "connection") and hasattr(connection, "add_all"):
        connection = await connection.connection()
    if hasattr(connection, "get_raw_connection"):
        raw = await connection.get_raw_connection()
        return raw.driver_connection
    return connection
