"""The tables of a store, for building statements. The migrations create them.

An event's body is the record; every other column, and every other table but the idempotency keys
and the checkpoints, can be made again from bodies. Trees have no part in building statements.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Column, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy.types import TypeEngine, UserDefinedType

SQLITE_REVISION: Final = "0004"
POSTGRES_REVISION: Final = "0004"
POSTGRES_SCHEMA: Final = "muniment"
SQLITE_PREFIX: Final = "muniment_"

EVERY_EVENT: Final = "*"
"""The term that every event has, so that all tenants' events are found in one order of ids."""


class XID8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name."""
        return "xid8"


class Tables(NamedTuple):
    """One dialect's tables."""

    events: Table
    postings: Table
    actions: Table
    index_state: Table
    idempotency_keys: Table


def define_tables(
    *,
    prefix: str,
    schema: str | None,
    id_type: TypeEngine[Any],
    sequence: dict[str, TypeEngine[Any]],
) -> Tables:
    """The tables with that prefix or schema, that type of event_id, and those sequence columns.

    `sequence` names the columns of the events that order them by recording; index_state holds the
    values of those same columns from which on nothing is indexed yet.
    """
    metadata = MetaData(schema=schema)

    def ordering() -> list[Column[Any]]:
        return [Column(name, kind) for name, kind in sequence.items()]

    return Tables(
        events=Table(
            f"{prefix}events",
            metadata,
            Column("tenant_id", Text),
            Column("event_id", id_type),
            Column("leaf_hash", LargeBinary),
            Column("terms", Text),
            Column("body", Text),
            *ordering(),
        ),
        postings=Table(
            f"{prefix}postings",
            metadata,
            Column("tenant_id", Text),
            Column("term", Text),
            Column("event_id", id_type),
        ),
        actions=Table(
            f"{prefix}actions",
            metadata,
            Column("tenant_id", Text),
            Column("action", Text),
        ),
        index_state=Table(
            f"{prefix}index_state", metadata, Column("only", SmallInteger), *ordering()
        ),
        idempotency_keys=Table(
            f"{prefix}idempotency_keys",
            metadata,
            Column("tenant_id", Text),
            Column("key", Text),
            Column("event_id", id_type),
        ),
    )
