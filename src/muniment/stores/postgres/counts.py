"""The counts of a PostgreSQL store: the database's own functions keep them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from uuid import UUID

from muniment.stores.counts import Bars, Cell, Counts, TenantCell, Width
from muniment.stores.postgres.page import paging

_SEES_ALL: Final = """
    EXISTS (SELECT FROM muniment.cells WHERE tenant_id = '' AND width = 86400000)
"""
# Who may not see the counts of all tenants together adds up those of the tenants it is bound to.
_OWNERS: Final = f"""
    SELECT CASE WHEN $1::text IS NOT NULL THEN ARRAY[$1::text]
                WHEN {_SEES_ALL} THEN ARRAY['']
                ELSE muniment.bound_tenants(current_user) END
"""
# The events that are not counted yet.
_BEHIND: Final = f"""
    FROM (SELECT tenant_id, event_id, terms FROM muniment.events
          WHERE (epoch, xid) >= (SELECT epoch, xid FROM muniment.counts_state)
          ORDER BY epoch, xid LIMIT {2**31 - 1}) behind
"""
_ACTION: Final = "left(substr(split_part(terms, E'\\x1f', 2), length('action:') + 1), 512)"
_OUTCOME: Final = "left(substr(split_part(terms, E'\\x1f', 3), length('outcome:') + 1), 16)"
# One statement, and so one snapshot: an event is counted, or it is behind the state.
_CELLS: Final = f"""
    SELECT (start - $3::bigint) / $4::bigint * $4::bigint + $3::bigint, action, outcome,
           sum(events)::bigint
    FROM muniment.cells
    WHERE tenant_id = ANY (({_OWNERS})::text[]) AND width = $2::int
      AND start >= $5::bigint AND start < $6::bigint
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT (('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint - $3::bigint)
               / $4::bigint * $4::bigint + $3::bigint,
           {_ACTION}, {_OUTCOME}, count(*)
    {_BEHIND}
    WHERE ($1::text IS NULL OR tenant_id = $1::text)
      AND event_id >= $7::text::uuid AND event_id < $8::text::uuid
    GROUP BY 1, 2, 3
"""
# From one tenant to the next by the key, whatever lies between; or those that one is bound to.
_TENANTS: Final = f"""
    WITH RECURSIVE found (tenant_id) AS (
        SELECT min(tenant_id) FROM muniment.cells WHERE tenant_id > '' AND {_SEES_ALL}
        UNION ALL
        SELECT (SELECT min(c.tenant_id) FROM muniment.cells c WHERE c.tenant_id > found.tenant_id)
        FROM found WHERE found.tenant_id IS NOT NULL
    ), tenants AS (
        SELECT tenant_id FROM found WHERE tenant_id IS NOT NULL
        UNION ALL
        SELECT unnest(muniment.bound_tenants(current_user)) WHERE NOT {_SEES_ALL}
    )
"""
_SOME_TENANTS: Final = f"{_TENANTS} SELECT tenant_id FROM tenants LIMIT $1::int"
_BY_TENANT: Final = f"""
    {_TENANTS} SELECT tenant_id, action, outcome, events
    FROM tenants, LATERAL (
        SELECT action, outcome, sum(events)::bigint AS events FROM muniment.cells c
        WHERE c.tenant_id = tenants.tenant_id AND width = $1::int
          AND start >= $2::bigint AND start < $3::bigint
        GROUP BY 1, 2
    ) counted
    UNION ALL
    SELECT tenant_id, {_ACTION}, {_OUTCOME}, count(*)
    {_BEHIND}
    WHERE event_id >= $4::text::uuid AND event_id < $5::text::uuid
    GROUP BY 1, 2, 3
"""
_Connection = Callable[[], AbstractAsyncContextManager[Any]]


class PostgresCounts(Counts):
    """Counts in the events' own database; row security binds who asks for them."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def count_pending(self, limit: int) -> int:
        async with self._connection() as connection:
            return int(await connection.fetchval("SELECT muniment.count_pending($1)", limit))

    async def cells(
        self, tenant_id: str | None, since: int, until: int, width: Width, bars: Bars
    ) -> Sequence[Cell]:
        bounds = (since, until, _lowest(since), _lowest(until))
        async with self._connection() as connection, paging(connection):
            rows = await connection.fetch(_CELLS, tenant_id, width, *bars, *bounds)
        return [Cell(*row) for row in rows]

    async def by_tenant(self, since: int, until: int, width: Width) -> Sequence[TenantCell]:
        bounds = (since, until, _lowest(since), _lowest(until))
        async with self._connection() as connection, paging(connection):
            rows = await connection.fetch(_BY_TENANT, width, *bounds)
        return [TenantCell(*row) for row in rows]

    async def tenants(self, limit: int) -> list[str]:
        async with self._connection() as connection, paging(connection):
            rows = await connection.fetch(_SOME_TENANTS, limit)
        return [row[0] for row in rows]

    async def forget(self) -> None:
        async with self._connection() as connection:
            await connection.execute("SELECT muniment.forget_counts()")


def _lowest(milliseconds: int) -> str:
    return str(UUID(bytes=milliseconds.to_bytes(6, "big") + bytes(10)))
