"""The SQLite store's statements for finding events."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Integer, LargeBinary, func

from muniment.stores.counts import FACTS
from muniment.stores.schema import SQLITE_PREFIX, define_tables
from muniment.stores.selecting import Statements

FIND: Final = Statements(
    define_tables(
        prefix=SQLITE_PREFIX, schema=None, id_type=LargeBinary(), sequence={"seq": Integer()}
    ),
    sequence=("seq",),
    has_lateral=False,
    position=func.instr,
    lower=func.lower,
)
FIND_FACTS: Final = FIND.giving(*FACTS)
