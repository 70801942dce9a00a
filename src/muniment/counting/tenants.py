"""Counting by tenant, from the store's cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from muniment.counting.tally import Tally
from muniment.stores.base import Store
from muniment.stores.counts import DAY, HOUR, Width

_FIRST_DAYS: Final = 8
_CERTAIN: Final = 3
"""So many parts are counted whatever the time: all of a week."""


async def count_tenants(
    store: Store,
    since: int,
    until: int,
    tally: Tally,
    admits: Callable[[str, str], bool],
    *,
    clock: Callable[[], float],
    ends: float,
) -> bool:
    """Count whole hours of each tenant, the newest first, until `ends`; whether all were counted.

    `admits` says whether events of an action and outcome count. The newest days are counted
    whatever the time.
    """
    parts = list(_parts(since, until))
    for n, part in enumerate(parts):
        if n >= _CERTAIN and clock() >= ends:
            return False
        for cell in await store.counts.by_tenant(*part):
            if admits(cell.action, cell.outcome):
                tally.tenants[cell.tenant_id] += cell.events
    return True


def _parts(since: int, until: int) -> Iterator[tuple[int, int, Width]]:
    """The parts of a range, the newest first, each with the widest cells that make it up.

    The longer the past is, the more of it comes at once: each part costs a little of its own.
    """
    first, last = -(-since // DAY) * DAY, until // DAY * DAY
    if first >= last:
        yield since, until, HOUR
        return
    if last < until:
        yield last, until, HOUR
    days = _FIRST_DAYS
    while first < last:
        start = max(first, last - days * DAY)
        yield start, last, DAY
        last, days = start, 2 * days
    if since < first:
        yield since, first, HOUR
