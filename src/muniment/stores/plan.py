"""How a selection is answered: which clause drives it, and how the parts come together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from sqlalchemy.sql import ClauseElement

from muniment.stores.base import Selection, StoredEvent
from muniment.stores.counts import Facts
from muniment.stores.selecting import Statements, every_event

_TERMS_AT_ONCE = 200
Found = TypeVar("Found", StoredEvent, Facts)


async def select_with(
    fetch: Callable[[ClauseElement], Awaitable[list[Found]]],
    statements: Statements,
    wanted: Selection,
    count: Callable[[ClauseElement], Awaitable[int]],
) -> list[Found]:
    """The selection's events, or their facts, the unindexed and the indexed together, in order.

    What is not indexed is read first: an event that is indexed meanwhile is then found twice,
    never missed.
    """
    if wanted.tenant_id is not None and not wanted.clauses:
        return await fetch(statements.by_tenant(wanted))
    clauses = list(wanted.clauses) or [every_event()]
    if len(clauses) > 1:
        counts = [await count(statements.how_many(wanted.tenant_id, clause)) for clause in clauses]
        clauses = [clauses[n] for n in sorted(range(len(clauses)), key=counts.__getitem__)]
        if counts and min(counts) == 0:
            clauses = clauses[:1]
    driver, rest = clauses[0], clauses[1:]
    found = await fetch(statements.unindexed(wanted))
    for start in range(0, len(driver.exact), _TERMS_AT_ONCE):
        terms = driver.exact[start : start + _TERMS_AT_ONCE]
        found += await fetch(statements.by_terms(wanted, terms, rest))
    distinct = {(event.event_id, event.tenant_id): event for event in found}
    in_order = sorted(distinct, reverse=wanted.order == "newest")
    return [distinct[key] for key in in_order[: wanted.limit]]


def native(wanted: Selection, convert: Callable[[bytes], object]) -> Selection:
    """The selection with its ids as the store's driver takes them."""
    after = wanted.after
    return msgspec.structs.replace(
        wanted,
        since_id=None if wanted.since_id is None else convert(wanted.since_id),
        until_id=None if wanted.until_id is None else convert(wanted.until_id),
        after=None if after is None else (convert(after[0]), after[1]),
    )
