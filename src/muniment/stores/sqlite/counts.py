"""The counts of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from muniment.query import TERM_SEPARATOR
from muniment.stores.counts import ALL_TENANTS, DAY, HOUR, Bars, Cell, Counts, TenantCell, Width
from muniment.stores.sqlite.append import transaction
from muniment.stores.sqlite.insertions import insertions

_T = TypeVar("_T")
_Key = tuple[str, int, str, str]
"""tenant_id, the hour's start, action, outcome"""

_ADD: Final = "INSERT INTO muniment_cells (tenant_id, width, start, action, outcome, events)"
_TO_WHAT_IS_THERE: Final = (
    "ON CONFLICT (tenant_id, width, start, action, outcome) "
    "DO UPDATE SET events = events + excluded.events"
)
_CELLS: Final = """
    SELECT (start - :origin) / :bar * :bar + :origin, action, outcome, sum(events)
    FROM muniment_cells
    WHERE tenant_id = :owner AND width = :width AND start >= :since AND start < :until
    GROUP BY 1, 2, 3
"""
# From one tenant to the next by the key, whatever lies between.
_TENANTS: Final = """
    WITH RECURSIVE tenants (tenant_id) AS (
        SELECT min(tenant_id) FROM muniment_cells WHERE tenant_id > ''
        UNION ALL
        SELECT (SELECT min(tenant_id) FROM muniment_cells WHERE tenant_id > tenants.tenant_id)
        FROM tenants WHERE tenants.tenant_id IS NOT NULL
    )
"""
_SOME_TENANTS: Final = f"""
    {_TENANTS} SELECT tenant_id FROM tenants WHERE tenant_id IS NOT NULL LIMIT :limit
"""
_BY_TENANT: Final = f"""
    {_TENANTS} SELECT tenant_id, action, outcome, sum(events)
    FROM tenants CROSS JOIN muniment_cells USING (tenant_id)
    WHERE width = :width AND start >= :since AND start < :until
    GROUP BY 1, 2, 3
"""
_STATE: Final = "SELECT seq FROM muniment_counts_state"
# The + keeps to the order of seq: few events are not counted yet.
_UNCOUNTED: Final = """
    SELECT tenant_id, substr(event_id, 1, 6), terms FROM muniment_events
    WHERE seq >= :start AND (:tenant IS NULL OR +tenant_id = :tenant)
      AND +event_id >= :lowest AND +event_id < :highest
"""
_MUCH_UNCOUNTED: Final = """
    SELECT tenant_id, substr(event_id, 1, 6), terms FROM muniment_events
    WHERE +seq >= :start AND tenant_id = :tenant AND event_id >= :lowest AND event_id < :highest
"""
_MUCH: Final = 50_000
"""Events behind the counts, of which a tenant's are better found by its own key."""


class _Run(Protocol):
    """Runs work with a connection, in a thread."""

    def __call__(self, work: Callable[[sqlite3.Connection], _T], /) -> Awaitable[_T]: ...


class SqliteCounts(Counts):
    """Counts in the events' own file. What is read for them is read beside the one who writes."""

    step = 2000  # recording waits while what they add up to is written

    def __init__(
        self,
        *,
        read: _Run,
        write: _Run,
    ) -> None:
        self._read = read
        self._write = write

    async def count_pending(self, limit: int) -> int:
        start, end, done, found = await self._read(lambda c: _gather(c, limit))
        if not done:
            return 0
        rows = sorted(_cells_of(found))
        counted = await self._write(lambda c: _add(c, start, end, rows))
        return done if counted else 0

    async def cells(
        self, tenant_id: str | None, since: int, until: int, width: Width, bars: Bars
    ) -> Sequence[Cell]:
        asked = {
            "owner": ALL_TENANTS if tenant_id is None else tenant_id,
            "width": width,
            "since": since,
            "until": until,
            "origin": bars.origin,
            "bar": bars.width,
        }
        counted, behind = await self._read(lambda c: _snapshot(c, _CELLS, asked, tenant_id))
        pending: Counter[tuple[int, str, str]] = Counter()
        for (_, hour, action, outcome), events in behind.items():
            bar = (hour - bars.origin) // bars.width * bars.width + bars.origin
            pending[bar, action, outcome] += events
        return [
            *(Cell(*row) for row in counted),
            *(Cell(*key, events) for key, events in pending.items()),
        ]

    async def by_tenant(self, since: int, until: int, width: Width) -> Sequence[TenantCell]:
        asked = {"width": width, "since": since, "until": until}
        counted, behind = await self._read(lambda c: _snapshot(c, _BY_TENANT, asked, None))
        return [
            *(TenantCell(*row) for row in counted),
            *(TenantCell(key[0], *key[2:], events) for key, events in behind.items()),
        ]

    async def tenants(self, limit: int) -> list[str]:
        rows = await self._read(lambda c: c.execute(_SOME_TENANTS, {"limit": limit}).fetchall())
        return [row[0] for row in rows]

    async def forget(self) -> None:
        def start_over(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.execute("DELETE FROM muniment_cells")
                connection.execute("UPDATE muniment_counts_state SET seq = 1")

        await self._write(start_over)


def _snapshot(
    connection: sqlite3.Connection, sql: str, asked: Mapping[str, Any], tenant_id: str | None
) -> tuple[list[Any], Counter[_Key]]:
    """What cells say, and what the events of their time that are not counted yet add up to."""
    where = {
        "tenant": tenant_id,
        "lowest": _lowest(asked["since"]),
        "highest": _lowest(asked["until"]),
    }
    connection.execute("BEGIN")
    try:
        (start,) = connection.execute(_STATE).fetchone()
        (last,) = connection.execute("SELECT max(seq) FROM muniment_events").fetchone()
        counted = connection.execute(sql, asked).fetchall()
        is_far_behind = tenant_id is not None and (last or 0) - start > _MUCH
        uncounted = _MUCH_UNCOUNTED if is_far_behind else _UNCOUNTED
        return counted, _tally(connection.execute(uncounted, {"start": start, **where}))
    finally:
        connection.execute("COMMIT")


def _gather(connection: sqlite3.Connection, limit: int) -> tuple[int, int, int, Counter[_Key]]:
    """Where counting stands, where it goes on after the next events, how many, and their counts.

    What has a seq is committed, and so is all before it: SQLite lets in one writer at a time.
    """
    (start,) = connection.execute(_STATE).fetchone()
    rows = connection.execute(
        "SELECT tenant_id, substr(event_id, 1, 6), terms, seq FROM muniment_events WHERE seq >= ? "
        "ORDER BY seq LIMIT ?",
        (start, limit),
    ).fetchall()
    end = rows[-1][3] + 1 if rows else start
    return start, end, len(rows), _tally(rows)


def _tally(rows: Iterable[Sequence[Any]]) -> Counter[_Key]:
    found: Counter[_Key] = Counter()
    for tenant_id, moment, terms, *_ in rows:
        hour = int.from_bytes(moment, "big") // HOUR * HOUR
        parts = terms.split(TERM_SEPARATOR, 3)
        if len(parts) < 4:
            parts = ("", "", "")  # not written by us: that must not stop it for everybody
        found[tenant_id, hour, parts[1][7:], parts[2][8:]] += 1
    return found


def _cells_of(found: Counter[_Key]) -> list[tuple[Any, ...]]:
    """The rows that the counts of a step add up to: for each width, a tenant's own and all's."""
    cells: Counter[tuple[str, int, int, str, str]] = Counter()
    for (tenant_id, hour, action, outcome), events in found.items():
        for width in (HOUR, DAY):
            start = hour // width * width
            cells[tenant_id, width, start, action, outcome] += events
            cells[ALL_TENANTS, width, start, action, outcome] += events
    return [(*key, events) for key, events in cells.items()]


def _add(
    connection: sqlite3.Connection, start: int, end: int, rows: Sequence[tuple[Any, ...]]
) -> bool:
    """Add the rows and move the state on, unless somebody else has moved it meanwhile."""
    with transaction(connection):
        moved = connection.execute(
            "UPDATE muniment_counts_state SET seq = ? WHERE seq = ?", (end, start)
        )
        if moved.rowcount == 0:
            return False
        for sql, values in insertions(connection, _ADD, rows):
            connection.execute(f"{sql} {_TO_WHAT_IS_THERE}", values)
    return True


def _lowest(milliseconds: int) -> bytes:
    return milliseconds.to_bytes(6, "big") + bytes(10)
