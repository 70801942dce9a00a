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
from typing import Final, NamedTuple

from muniment.anchors.base import Anchor
from muniment.diagnostics import Diagnostics
from muniment.proving import prove_consistency
from muniment.stores.trees import Published, Trees

_LEFT_OVER: Final = 10_000
_RETRY: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_PATIENCE: Final = 1.0
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
        """Why checkpoints don't reach an anchor, by its name: of how many tenants, and one reason.

        A fork that is refused for one tenant stands here until it is resolved, whatever becomes of
        the others.
        """
        return {w.anchor.name: told for w in self._workers if (told := w.told()) is not None}

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
        """Stop, after bringing for up to `patience` seconds what was not tried yet."""
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await asyncio.gather(*(worker.settled.wait() for worker in self._workers))
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_PATIENCE)
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

    async def brought(self, checkpoints: Iterable[Published]) -> None:
        """Mark those of the checkpoints that every anchor has.

        On disk: they are at every anchor. After a crash before the mark, they are put there again.
        """
        marks = [
            (each.tenant_id, each.tree_size)
            for each in checkpoints
            if all(worker.has(each) for worker in self._workers)
        ]
        if marks:
            await self._trees.mark_anchored(marks)

    def report(self, anchor: Anchor, error: Exception) -> None:
        """Log that an anchor fails, once a minute."""
        kind = f"anchor {anchor.name}"
        self._diagnostics.report(logging.WARNING, kind, "a checkpoint is not anchored: %s", error)


class _Failure(NamedTuple):
    """Why a tenant's checkpoint did not reach an anchor, and when it is tried again."""

    reason: str
    pause: float
    not_before: float


class _Worker:
    """What one anchor still has to get, and what it has."""

    def __init__(self, anchor: Anchor, anchoring: Anchoring) -> None:
        self.anchor = anchor
        self.waiting: dict[str, Published] = {}
        self.settled = asyncio.Event()
        """Set while everything that waits has been tried."""
        self.settled.set()
        self._anchoring = anchoring
        self._failures: dict[str, _Failure] = {}
        self._taken: dict[str, tuple[int, bytes]] = {}
        self._wake = asyncio.Event()

    def take(self, checkpoint: Published) -> None:
        waits = self.waiting.get(checkpoint.tenant_id)
        if not self.has(checkpoint) and (
            waits is None or _identity(waits) != _identity(checkpoint)
        ):
            self.waiting[checkpoint.tenant_id] = checkpoint
            self.settled.clear()
            self._wake.set()

    def has(self, checkpoint: Published) -> bool:
        # Of the same root too: a database that was rolled back may have grown another way.
        return self._taken.get(checkpoint.tenant_id) == _identity(checkpoint)

    def told(self) -> str | None:
        failures = dict(self._failures)
        if not failures:
            return None
        tenant_id, first = next(iter(failures.items()))
        others = f" (and {len(failures) - 1:,} other tenants)" if len(failures) > 1 else ""
        return f"tenant {tenant_id!r}: {first.reason}{others}"

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._wake.clear()  # before we look: what comes from here on wakes us again
            due = [each for each in self.waiting.values() if self._is_due(each, clock())]
            for start in range(0, len(due), _AT_ONCE):
                some = due[start : start + _AT_ONCE]
                done = await asyncio.gather(*map(self._bring, some))
                await self._mark(
                    [each for each, is_done in zip(some, done, strict=True) if is_done]
                )
            if self.waiting.keys() <= self._failures.keys() and not self._wake.is_set():
                self.settled.set()
            retries = [self._failures[t].not_before for t in self.waiting if t in self._failures]
            with contextlib.suppress(TimeoutError):
                pause = max(0.0, min(retries) - clock()) if retries else None
                await asyncio.wait_for(self._wake.wait(), pause)

    def _is_due(self, checkpoint: Published, now: float) -> bool:
        failure = self._failures.get(checkpoint.tenant_id)
        return failure is None or failure.not_before <= now

    async def _bring(self, checkpoint: Published) -> bool:
        tenant_id = checkpoint.tenant_id
        try:
            await self._anchoring.bring(self.anchor, checkpoint)
        except Exception as error:  # noqa: BLE001 - one checkpoint must not end the worker
            before = self._failures.get(tenant_id)
            pause = min(before.pause * 2, _LONGEST_PAUSE) if before else _RETRY
            now = asyncio.get_running_loop().time()
            self._failures[tenant_id] = _Failure(str(error) or repr(error), pause, now + pause)
            self._anchoring.report(self.anchor, error)
            return False
        self._taken[tenant_id] = _identity(checkpoint)
        self._failures.pop(tenant_id, None)
        if self.waiting.get(tenant_id) is checkpoint:
            del self.waiting[tenant_id]
        return True

    async def _mark(self, brought: Sequence[Published]) -> None:
        try:
            await self._anchoring.brought(brought)
        except Exception as error:  # noqa: BLE001 - they are brought, and marked by a later round
            self._anchoring.report(self.anchor, error)


def _identity(checkpoint: Published) -> tuple[int, bytes]:
    return checkpoint.tree_size, checkpoint.root_hash
