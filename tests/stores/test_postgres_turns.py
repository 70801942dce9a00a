"""Turns at PostgreSQL's connections go round among tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from muniment.errors import StoreUnavailable
from muniment.stores.postgres.turns import Turns

_LONG = 20.0


class _Searches:
    """Searches of tenants, each of which holds its turn until it is ended."""

    def __init__(self, most: int) -> None:
        self.turns = Turns(most)
        self.began: list[str] = []
        self._ends: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, *tenants: str) -> None:
        """Begin a search of each, in that order."""
        for tenant_id in tenants:
            self.tasks.append(asyncio.create_task(self._search(tenant_id)))
            await asyncio.sleep(0)

    async def end(self, count: int = 1) -> None:
        """End the searches that began first, one after the other."""
        for _ in range(count):
            self._ends.pop(0).set()
            for _ in range(3):
                await asyncio.sleep(0)

    async def _search(self, tenant_id: str) -> None:
        async with self.turns.of(tenant_id, _LONG):
            self.began.append(tenant_id)
            ends = asyncio.Event()
            self._ends.append(ends)
            await ends.wait()


@pytest.mark.parametrize(
    ("asked", "began"),
    [
        ("aaaa", "aaaa"),
        ("aaaab", "aabaa"),
        ("aaaabb", "aababa"),
        ("aaaabc", "aabaca"),
        ("abcabc", "abcabc"),
    ],
)
async def test_a_free_turn_goes_to_the_tenant_with_the_fewest(
    asked: Sequence[str], began: Sequence[str]
) -> None:
    """So who asks for much waits behind who asks for little; alone it may have all turns."""
    searches = _Searches(2)
    await searches.ask(*asked)
    await searches.end(len(asked))
    assert searches.began == list(began)
    assert searches.turns._left == 2


async def test_who_waits_too_long_is_told() -> None:
    """And takes no turn with it."""
    turns = Turns(1)
    async with turns.of("a", _LONG):
        with pytest.raises(StoreUnavailable, match="try again"):
            async with turns.of("b", 0.01):
                pass
    async with turns.of("b", 0.01):
        assert turns._left == 0


@pytest.mark.parametrize("ends_first", [True, False])
async def test_who_leaves_while_waiting_loses_nobody_a_turn(*, ends_first: bool) -> None:
    """Whether its turn came just then or not."""
    searches = _Searches(1)
    await searches.ask("a", "b", "c")
    if ends_first:
        searches._ends.pop(0).set()
        await asyncio.sleep(0)
    searches.tasks[1].cancel()
    if not ends_first:
        searches._ends.pop(0).set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert searches.began == ["a", "c"]
    await searches.end()
    assert searches.turns._left == 1
    assert searches.turns._waiting == {}
