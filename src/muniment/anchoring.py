"""Brings published checkpoints to the anchors, each at its own pace.

A slow anchor delays no other: each has its own worker, and of each tenant only the newest
checkpoint waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from muniment.anchors.base import Anchor
from muniment.diagnostics import Diagnostics
from muniment.errors import AnchorError, MunimentError
from muniment.proving import prove_consistency
from muniment.stores.trees import Published, Trees

_LEFT_OVER: Final = 10_000
_RETRY: Final = 1.0
_AT_ONCE: Final = 16
"""Checkpoints that are on their way to one anchor at a time."""


class Anchoring:
    """Workers for anchors. Belongs to one event loop."""

    def __init__(
        self, trees: Trees, anchors: Sequence[Anchor], *, diagnostics: Diagnostics
    ) -> None:
        self._trees = trees
        self._diagnostics = diagnostics
        self._workers = [_Worker(anchor, self) for anchor in anchors]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def errors(self) -> dict[str, str]:
        """Why each anchor that fails did so when it was last tried, by its name."""
        return {w.anchor.name: w.error for w in self._workers if w.error is not None}

    @property
    def waiting(self) -> int:
        """How many checkpoints wait for the anchor that is furthest behind."""
        return max((len(worker.waiting) for worker in self._workers), default=0)

    def start(self) -> None:
        """Begin, in the running loop."""
        self._tasks = [
            asyncio.create_task(worker.run(), name=f"muniment-anchor-{worker.anchor.name}")
            for worker in self._workers
        ]

    async def take_left_over(self) -> None:
        """Take what another process published and did not bring to the anchors before it ended."""
        if self._workers:
            self.hand_over(await self._trees.unanchored(_LEFT_OVER))

    def hand_over(self, checkpoints: Iterable[Published]) -> None:
        """Have these brought to every anchor; a newer one takes the place of an older one."""
        for checkpoint in checkpoints:
            for worker in self._workers:
                worker.take(checkpoint)

    async def close(self, *, patience: float = 1.0) -> None:
        """Stop, after bringing for up to `patience` seconds what still waits."""
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await asyncio.gather(*(worker.idle() for worker in self._workers))
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            self._tasks = []
        for worker in self._workers:
            await worker.anchor.close()

    async def bring(self, anchor: Anchor, checkpoint: Published) -> None:
        """Put one checkpoint to one anchor. On disk: it is published, and perhaps at the anchor.

        After a crash it is put there again, which changes nothing there.
        """
        prove = partial(prove_consistency, self._trees, checkpoint.tenant_id)
        lines = await anchor.anchor(checkpoint, prove)
        if lines:
            await self._trees.add_signatures(checkpoint.tenant_id, checkpoint.tree_size, lines)

    async def brought(self, checkpoint: Published) -> None:
        """Mark a checkpoint once no anchor waits for it, nor for an older one of the tenant.

        On disk: it is at every anchor. After a crash before the mark, it is put there once more.
        """
        tenant_id, size = checkpoint.tenant_id, checkpoint.tree_size
        if all(worker.has(tenant_id, size) for worker in self._workers):
            await self._trees.mark_anchored([(tenant_id, size)])

    def report(self, anchor: Anchor, error: Exception) -> None:
        """Log that an anchor fails, once a minute."""
        kind = f"anchor {anchor.name}"
        self._diagnostics.report(logging.WARNING, kind, "a checkpoint is not anchored: %s", error)


class _Worker:
    """What one anchor still has to get, and what it has."""

    def __init__(self, anchor: Anchor, anchoring: Anchoring) -> None:
        self.anchor = anchor
        self.waiting: dict[str, Published] = {}
        self.error: str | None = None
        self._anchoring = anchoring
        self._taken: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def take(self, checkpoint: Published) -> None:
        size = checkpoint.tree_size
        before = self.waiting.get(checkpoint.tenant_id)
        if self.has(checkpoint.tenant_id, size) or (before and before.tree_size >= size):
            return
        self.waiting[checkpoint.tenant_id] = checkpoint
        self._idle.clear()
        self._wake.set()

    def has(self, tenant_id: str, size: int) -> bool:
        return self._taken.get(tenant_id, 0) >= size

    async def idle(self) -> None:
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting = list(self.waiting.values())
            brought = True
            for start in range(0, len(waiting), _AT_ONCE):
                some = waiting[start : start + _AT_ONCE]
                brought &= all(await asyncio.gather(*map(self._bring, some)))
            if not brought:
                await asyncio.sleep(_RETRY)
                self._wake.set()
            elif not self.waiting:
                self._idle.set()

    async def _bring(self, checkpoint: Published) -> bool:
        try:
            await self._anchoring.bring(self.anchor, checkpoint)
            self._taken[checkpoint.tenant_id] = checkpoint.tree_size
            await self._anchoring.brought(checkpoint)
        except (AnchorError, MunimentError) as error:
            self.error = str(error)
            self._anchoring.report(self.anchor, error)
            return False
        except Exception as error:  # noqa: BLE001 - one checkpoint must not end the worker
            self.error = repr(error)
            self._anchoring.report(self.anchor, error)
            return False
        self.error = None
        if self.waiting.get(checkpoint.tenant_id) is checkpoint:
            del self.waiting[checkpoint.tenant_id]
        return True
