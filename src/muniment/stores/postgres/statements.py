"""The PostgreSQL store's statements for finding events."""

from __future__ import annotations

from typing import Final

from sqlalchemy import SmallInteger, Uuid, collate, func

from muniment.stores.counts import FACTS
from muniment.stores.schema import POSTGRES_SCHEMA, XID8, define_tables
from muniment.stores.selecting import Statements

FIND: Final = Statements(
    define_tables(
        prefix="",
        schema=POSTGRES_SCHEMA,
        id_type=Uuid(),
        sequence={"epoch": SmallInteger(), "xid": XID8()},
    ),
    sequence=("epoch", "xid"),
    has_lateral=True,
    position=func.strpos,
    lower=lambda column: func.lower(collate(column, "C")),
)
FIND_FACTS: Final = FIND.giving(*FACTS)
