"""What is asked of a PostgreSQL database before anything is recorded in it."""

from __future__ import annotations

from typing import Any

from muniment.stores.base import SchemaStatus
from muniment.stores.schema import POSTGRES_REVISION


async def schema_status(connection: Any) -> SchemaStatus:
    """The revision that the database is at."""
    current = None
    if await connection.fetchval("SELECT to_regclass('muniment.schema_version')") is not None:
        current = await connection.fetchval("SELECT version_num FROM muniment.schema_version")
    known = current is None or current <= POSTGRES_REVISION
    return SchemaStatus(current=current, wanted=POSTGRES_REVISION, known=known)


async def unsafe_settings(connection: Any) -> list[str]:
    """The settings that are off, and let a crash lose what was committed."""
    return [
        name
        for name in ("fsync", "synchronous_commit", "full_page_writes")
        if await connection.fetchval("SELECT current_setting($1)", name) == "off"
    ]


async def is_another_cluster(connection: Any) -> bool:
    """Whether the database was restored into a cluster that it has recorded nothing in."""
    return bool(
        await connection.fetchval(
            "SELECT system_identifier <> (SELECT system_identifier FROM pg_control_system()) "
            "FROM muniment.epochs ORDER BY epoch DESC LIMIT 1"
        )
    )
