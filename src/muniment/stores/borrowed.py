"""Finds the driver's own connection under the one that a caller lends for its transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


async def driver_connection(given: Any, *, is_begun: Callable[[Any], bool]) -> Any:
    """The driver's connection under an SQLAlchemy session or connection; else what was given.

    SQLAlchemy begins a transaction with its first statement only. So that what goes through the
    driver's connection is within it, a first statement is made where `is_begun` denies one.
    """
    connection = given
    if not hasattr(given, "get_raw_connection"):
        if not hasattr(given, "add_all"):
            return given
        connection = await given.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    if not connection.in_transaction() or not is_begun(raw):
        await connection.exec_driver_sql("SELECT 1")
    return raw
