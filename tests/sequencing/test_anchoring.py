"""What a sequencer published is brought to the anchors, whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from muniment.anchoring import Anchoring
from muniment.anchors.base import Anchor, Prove
from muniment.diagnostics import Diagnostics
from muniment.errors import AnchorError
from muniment.sequencer import Sequencer
from muniment.stores.base import Store
from muniment.stores.trees import Published
from muniment.testing.contract import sealed
from tests.scripted import LONG, until
from tests.sequencing.sequencers import sequencer_over


class _Place(Anchor):
    """Keeps what it gets, unless it is told to fail or to hang."""

    def __init__(self, name: str) -> None:
        super().__init__(name, timeout=LONG)
        self.kept: list[tuple[str, int]] = []
        self.is_down = False
        self.lines: str | None = None

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        if self.is_down:
            raise AnchorError(f"{self.name} is down")
        await prove(0, checkpoint.tree_size)
        self.kept.append((checkpoint.tenant_id, checkpoint.tree_size))
        return self.lines

    async def close(self) -> None:
        """Nothing is open."""


class _Hanging(_Place):
    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:  # noqa: ARG002
        return await cast("asyncio.Future[str | None]", asyncio.get_running_loop().create_future())


async def _anchored(store: Store, *anchors: Anchor) -> tuple[Sequencer, Anchoring]:
    anchoring = Anchoring(store.trees, anchors, diagnostics=Diagnostics())
    anchoring.start()
    return sequencer_over(store, anchoring=anchoring), anchoring


async def _rounds(sequencer: Sequencer, until_so: Callable[[], bool]) -> None:
    """Rounds until it is so: a mark that is just being set may hold up what one would integrate."""
    async with asyncio.timeout(LONG):
        while not until_so():
            await sequencer.round()
            await asyncio.sleep(0.002)


async def test_what_is_published_is_brought_to_the_anchors(store: Store) -> None:
    """Every anchor gets the checkpoint; its lines stand in the note, and it is marked."""
    place = _Place("a")
    place.lines = "\u2014 witness AAAA\n"
    sequencer, anchoring = await _anchored(store, place, _Place("b"))
    await store.append([sealed(1)])
    await sequencer.round()
    await anchoring.close(patience=LONG)
    assert place.kept == [("acme", 1)]
    published = await store.trees.checkpoint("acme")
    assert published is not None
    assert published.note.endswith(place.lines)
    assert await store.trees.unanchored(9) == []


async def test_an_anchor_that_hangs_delays_no_other(store: Store) -> None:
    """The others get their checkpoints, and sequencing goes on; the mark is left for later."""
    place = _Place("a")
    sequencer, anchoring = await _anchored(store, _Hanging("hanging"), place)
    for n in range(2):
        await store.append([sealed(n)])
        await _rounds(sequencer, lambda: len(place.kept) == n + 1)  # noqa: B023 - waited for here
    assert len(await store.trees.unanchored(9)) == 1
    await anchoring.close(patience=0)


async def test_an_anchor_that_comes_back_gets_the_newest(store: Store) -> None:
    """While it is down the reason is told; of what it missed it gets each tenant's newest."""
    place = _Place("a")
    place.is_down = True
    sequencer, anchoring = await _anchored(store, place)
    for n in range(2):
        await store.append([sealed(n)])
        await _rounds(sequencer, lambda: sequencer.state().published == n + 1)  # noqa: B023
    await until(lambda: "a is down" in sequencer.state().unanchored.get("a", ""))
    place.is_down = False
    await until(lambda: place.kept == [("acme", 2)])
    await anchoring.close()


class _Forked(_Place):
    """Refuses one tenant's checkpoints, as a witness that saw another tree."""

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        if checkpoint.tenant_id == "acme":
            raise AnchorError("it was forked")
        return await super()._put(checkpoint, prove)


async def test_a_fork_that_an_anchor_refuses_is_told_until_it_is_resolved(store: Store) -> None:
    """The other tenants' checkpoints that it takes do not hide it."""
    place = _Forked("a")
    sequencer, anchoring = await _anchored(store, place)
    for n in range(3):
        await store.append([sealed(n), sealed(n, tenant_id="zeta")])
        await _rounds(sequencer, lambda: len(place.kept) == n + 1)  # noqa: B023 - waited for here
        assert sequencer.state().unanchored == {"a": "tenant 'acme': it was forked"}
    await anchoring.close()


async def test_what_a_dead_process_left_is_anchored(store: Store) -> None:
    """A checkpoint that was published and not anchored is found by the next sequencer."""
    await store.append([sealed(1)])
    await sequencer_over(store).round()
    place = _Place("a")
    sequencer, anchoring = await _anchored(store, place)
    await sequencer.round()
    await anchoring.close(patience=LONG)
    assert place.kept == [("acme", 1)]
