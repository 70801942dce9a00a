"""What is asked of a PostgreSQL database before anything is recorded in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from muniment.errors import SchemaMismatch
from muniment.stores.base import SchemaStatus
from muniment.stores.schema import POSTGRES_REVISION

_MONTHS: Final = """
    SELECT substr(relname, length('events_') + 1) FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = 'muniment.events'::regclass AND relname ~ '^events_[0-9]{4}_[0-9]{2}$'
    ORDER BY 1
"""
_IS_ANOTHER_CLUSTER: Final = """
    SELECT system_identifier <> (SELECT system_identifier FROM pg_control_system())
    FROM muniment.epochs ORDER BY epoch DESC LIMIT 1
"""


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


async def refuse_another_cluster(connection: Any, where: str) -> None:
    """Raise `SchemaMismatch` in a database that was restored into a cluster, and not adopted.

    Asked on every new connection: behind one address there may be another cluster today. One that
    is refused, or gives no answer, is ended.
    """
    try:
        is_another = await connection.fetchval(_IS_ANOTHER_CLUSTER)
    except BaseException:
        connection.terminate()
        raise
    if is_another:
        connection.terminate()
        raise SchemaMismatch(
            f"{where} was restored into another cluster, where transaction ids start over: run "
            "`muniment --url … db upgrade` to begin a new epoch"
        )


async def is_pooled(connection: Any) -> bool:
    """Whether something stands between us and the server, and may change servers under us.

    A pooler can't know whose process will serve us when it greets us with the number of one.
    """
    served_by = await connection.fetchval("SELECT pg_backend_pid()")
    return bool(served_by != connection.get_server_pid())


async def months_made(connection: Any) -> list[datetime]:
    """The months whose partitions are there, but for the last: asking for it makes the next."""
    rows = await connection.fetch(_MONTHS)
    return [datetime.strptime(row[0], "%Y_%m").replace(tzinfo=UTC) for row in rows][:-1]
