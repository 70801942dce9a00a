"""How a selection is answered: which clause drives it, and how the parts come together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from sqlalchemy.sql import ClauseElement

from muniment.query import Clause
from muniment.stores.base import Place, Selection, StoredEvent
from muniment.stores.counts import Facts
from muniment.stores.selecting import Statements, every_event

_TERMS_AT_ONCE = 200
Found = TypeVar("Found", StoredEvent, Facts)
Rows = Callable[[ClauseElement], Awaitable[list[Any]]]
"""Gives the rows of a statement."""


async def select_with(
    rows: Rows, statements: Statements, wanted: Selection, made: Callable[[Any], Found]
) -> list[Found]:
    """The selection's events, or their facts, the unindexed and the indexed together, in order.

    What is not indexed is read first: an event that is indexed meanwhile is then found twice,
    never missed. `made` makes one of a row.
    """
    if wanted.tenant_id is not None and not wanted.clauses:
        return [made(row) for row in await rows(statements.by_tenant(wanted))]
    driver, *rest = await _by_cost(rows, statements, wanted)
    found = [made(row) for row in await rows(statements.unindexed(wanted))]
    for start in range(0, len(driver.exact), _TERMS_AT_ONCE):
        terms = driver.exact[start : start + _TERMS_AT_ONCE]
        found += [made(row) for row in await rows(statements.by_terms(wanted, terms, rest))]
    distinct = {(event.event_id, event.tenant_id): event for event in found}
    in_order = sorted(distinct, reverse=wanted.order == "newest")
    return [distinct[key] for key in in_order[: wanted.limit]]


async def reach_with(
    rows: Rows,
    statements: Statements,
    wanted: Selection,
    candidates: int,
    raw: Callable[[Any], bytes],
) -> Place | None:
    """The nearest place at which a part of what `select_with` looks at has had its share.

    The terms share the candidates; what is not indexed may have as many again. `raw` gives the 16
    bytes of an event_id as the store's driver has it.
    """
    all_at_once = msgspec.structs.replace(wanted, limit=candidates, upto=None)
    if wanted.tenant_id is not None and not wanted.clauses:
        edges = _whole(await rows(statements.edge_by_tenant(all_at_once)), candidates)
    else:
        driver = (await _by_cost(rows, statements, wanted))[0]
        edges = _whole(await rows(statements.edge_unindexed(all_at_once)), candidates)
        share = max(1, candidates // len(driver.exact))
        each = msgspec.structs.replace(all_at_once, limit=share)
        for start in range(0, len(driver.exact), _TERMS_AT_ONCE):
            terms = driver.exact[start : start + _TERMS_AT_ONCE]
            edges += _whole(await rows(statements.edges_by_terms(each, terms)), share)
    places = [(raw(row[0]), row[1]) for row in edges]
    return (max if wanted.order == "newest" else min)(places, default=None)


def _whole(edges: list[Any], share: int) -> list[Any]:
    """Those edges behind which there may be more."""
    return [row for row in edges if row[2] == share]


async def _by_cost(rows: Rows, statements: Statements, wanted: Selection) -> list[Clause]:
    """The clauses, the one that the fewest events have first; that alone if none has it."""
    clauses = list(wanted.clauses) or [every_event()]
    if len(clauses) > 1:
        counts = [
            int((await rows(statements.how_many(wanted.tenant_id, clause)))[0][0])
            for clause in clauses
        ]
        clauses = [clauses[n] for n in sorted(range(len(clauses)), key=counts.__getitem__)]
        if min(counts) == 0:
            clauses = clauses[:1]
    return clauses
