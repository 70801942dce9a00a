"""Trees that fail when they are told to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final, TypeVar

from muniment.config import one_of
from muniment.errors import StoreError, StoreUnavailable
from muniment.stores.trees import (
    Bundle,
    Grow,
    Inspected,
    Lag,
    Published,
    RowCounts,
    Tree,
    Trees,
)
from muniment.tiles import Tile

_T = TypeVar("_T")
_STEPS: Final = tuple(sorted(Trees.__abstractmethods__))


class FaultyTrees(Trees):
    """Passes everything on to a real store's trees, but lets steps fail or hang.

    A step is the name of a method: "integrate", "publish", "mark_anchored" and so on; of another
    name, `InvalidConfig` is raised. `done` counts how often each step was done by the real trees.
    """

    def __init__(self, trees: Trees) -> None:
        self.done: Counter[str] = Counter()
        self._trees = trees
        self._faults: dict[str, _Fault] = {}

    # --- what it is told

    def heal(self, step: str | None = None) -> None:
        """Let a step, or every step, work again; a call that hangs goes on."""
        healed = list(self._faults) if step is None else [_checked(step)]
        for each in healed:
            if each in self._faults:
                self._faults.pop(each).is_healed.set()

    def fail(self, step: str, error: StoreError | None = None, *, times: int | None = None) -> None:
        """Let the next `times` calls of a step (None: all) raise `error` and do nothing."""
        self._set(step, _Fault(error or _told_to_fail(step), times))

    def fail_but_store(
        self, step: str, error: StoreError | None = None, *, times: int | None = None
    ) -> None:
        """Let a step be done and then raise, as when the answer is lost on its way."""
        self._set(step, _Fault(error or _told_to_fail(step), times, stores_first=True))

    def hang(self, step: str) -> None:
        """Let calls of a step wait until `heal`, before anything is done."""
        self._set(step, _Fault(None, None))

    def _set(self, step: str, fault: _Fault) -> None:
        self.heal(step)
        self._faults[step] = fault

    async def _do(self, step: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Do one step, or fail; every method goes through here."""
        fault = self._faults.get(step)
        if fault is not None and fault.error is None:
            await fault.is_healed.wait()
            fault = self._faults.get(step)
        error = fault.next_error() if fault else None
        if fault is not None and error is not None and not fault.stores_first:
            raise error
        result = await call()
        self.done[step] += 1
        if error is not None:
            raise error
        return result

    # --- the sequencer's side

    async def why_not(self) -> str | None:
        """Ask the real trees."""
        return await self._do("why_not", self._trees.why_not)

    async def integrate(self, limit: int, grow: Grow) -> int:
        """Integrate into the real trees."""
        return await self._do("integrate", lambda: self._trees.integrate(limit, grow))

    async def unpublished(self, limit: int) -> list[Tree]:
        """Those of the real trees."""
        return await self._do("unpublished", lambda: self._trees.unpublished(limit))

    async def publish(self, checkpoints: Sequence[Published]) -> list[str]:
        """Publish in the real trees."""
        return await self._do("publish", lambda: self._trees.publish(checkpoints))

    async def unanchored(self, limit: int) -> list[Published]:
        """Those of the real trees."""
        return await self._do("unanchored", lambda: self._trees.unanchored(limit))

    async def mark_anchored(self, checkpoints: Iterable[tuple[str, int]]) -> None:
        """Mark in the real trees."""
        await self._do("mark_anchored", lambda: self._trees.mark_anchored(checkpoints))

    async def add_signatures(self, tenant_id: str, tree_size: int, lines: str) -> None:
        """Add to a note of the real trees."""
        await self._do(
            "add_signatures", lambda: self._trees.add_signatures(tenant_id, tree_size, lines)
        )

    async def lag(self) -> Lag:
        """That of the real trees."""
        return await self._do("lag", self._trees.lag)

    # --- everybody's side

    async def tree(self, tenant_id: str) -> Tree | None:
        """That of the real trees."""
        return await self._do("tree", lambda: self._trees.tree(tenant_id))

    async def trees(self, after: str | None, limit: int) -> list[Tree]:
        """The real trees."""
        return await self._do("trees", lambda: self._trees.trees(after, limit))

    async def tiles(self, tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        """Those of the real trees."""
        return await self._do("tiles", lambda: self._trees.tiles(tenant_id, wanted))

    async def bundles(self, tenant_id: str, first: int, count: int) -> list[Bundle]:
        """Those of the real trees."""
        return await self._do("bundles", lambda: self._trees.bundles(tenant_id, first, count))

    async def row_counts(self, tenant_id: str) -> RowCounts:
        """Those of the real trees."""
        return await self._do("row_counts", lambda: self._trees.row_counts(tenant_id))

    async def leaf_index(self, tenant_id: str, event_id: str) -> int | None:
        """That in the real trees."""
        return await self._do("leaf_index", lambda: self._trees.leaf_index(tenant_id, event_id))

    async def checkpoint(self, tenant_id: str, tree_size: int | None = None) -> Published | None:
        """That of the real trees."""
        return await self._do("checkpoint", lambda: self._trees.checkpoint(tenant_id, tree_size))

    async def checkpoints(self, tenant_id: str, after: int, limit: int) -> list[Published]:
        """Those of the real trees."""
        return await self._do(
            "checkpoints", lambda: self._trees.checkpoints(tenant_id, after, limit)
        )

    async def integrated_to(self) -> str | None:
        """The position in the real trees."""
        return await self._do("integrated_to", self._trees.integrated_to)

    async def inspect(
        self, after: str | None, until: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Inspected]:
        """Inspect the real store."""
        return await self._do(
            "inspect", lambda: self._trees.inspect(after, until, limit, tenant_id)
        )


class _Fault:
    """What a step was told: to raise `error`, or to hang if that is None."""

    def __init__(
        self, error: StoreError | None, times: int | None, *, stores_first: bool = False
    ) -> None:
        self.error = error
        self.stores_first = stores_first
        self.is_healed = asyncio.Event()
        self._times = times

    def next_error(self) -> StoreError | None:
        if self._times is not None:
            if self._times == 0:
                return None
            self._times -= 1
        return self.error


def _checked(step: str) -> str:
    one_of("step", step, _STEPS)
    return step


def _told_to_fail(step: str) -> StoreError:
    return StoreUnavailable(f"{step} was told to fail")
