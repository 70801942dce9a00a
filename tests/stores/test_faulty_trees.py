"""Trees that fail when they are told to, for the tests of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from muniment.errors import InvalidConfig, StoreError, StoreUnavailable
from muniment.growing import grow
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.testing import FaultyStore, FaultyTrees
from muniment.testing.contract import sealed
from muniment.testing.trees_contract import TreesContract


class TestUntold(TreesContract):
    """As long as they are told nothing, they keep the contract."""

    @pytest.fixture
    def new_store(self, sqlite_url: str) -> Callable[[], Store]:
        """Stores over one file."""
        return lambda: FaultyStore(open_store(sqlite_url))


@pytest_asyncio.fixture
async def trees(sqlite_url: str) -> AsyncIterator[FaultyTrees]:
    """Those of an open store with two events that wait for their leaves."""
    store = FaultyStore(open_store(sqlite_url))
    await store.open()
    await store.append([sealed(1), sealed(2)])
    yield store.trees
    await store.close()


async def _size(trees: FaultyTrees) -> int:
    tree = await trees.tree("acme")
    return tree.tree_size if tree else 0


async def test_a_step_that_fails_does_nothing(trees: FaultyTrees) -> None:
    """The error is the one that was given; other steps work."""
    trees.fail("integrate", StoreError("not today"))
    for _ in range(2):
        with pytest.raises(StoreError, match="not today"):
            await trees.integrate(10, grow)
    assert await _size(trees) == 0
    assert trees.done["integrate"] == 0


async def test_a_step_may_be_done_and_fail(trees: FaultyTrees) -> None:
    """As when an answer is lost: the caller sees an error, and the next one what was done."""
    trees.fail_but_store("integrate")
    with pytest.raises(StoreUnavailable, match="integrate was told to fail"):
        await trees.integrate(10, grow)
    assert await _size(trees) == 2
    assert trees.done["integrate"] == 1


async def test_a_step_fails_as_often_as_it_was_told(trees: FaultyTrees) -> None:
    """Then it works again."""
    trees.fail("integrate", times=1)
    with pytest.raises(StoreUnavailable):
        await trees.integrate(10, grow)
    assert await trees.integrate(10, grow) == 2


async def test_a_step_that_hangs_goes_on_when_it_is_healed(trees: FaultyTrees) -> None:
    """It has done nothing until then."""
    trees.hang("integrate")
    call = asyncio.create_task(trees.integrate(10, grow))
    await asyncio.wait({call}, timeout=0.02)
    assert not call.done()
    assert await _size(trees) == 0
    trees.heal()
    assert await call == 2


async def test_one_step_is_healed_by_itself(trees: FaultyTrees) -> None:
    """The others go on failing."""
    trees.fail("integrate")
    trees.fail("lag")
    trees.heal("integrate")
    assert await trees.integrate(10, grow) == 2
    with pytest.raises(StoreUnavailable):
        await trees.lag()


@pytest.mark.parametrize("how", ["fail", "fail_but_store", "hang", "heal"])
async def test_a_step_that_there_is_not_is_refused(trees: FaultyTrees, how: str) -> None:
    """A test with a misspelt step would find nothing."""
    with pytest.raises(InvalidConfig, match=r"step: 'publsh' is none of .*, publish,"):
        getattr(trees, how)("publsh")
