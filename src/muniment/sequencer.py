"""pending → sequenced and integrated → published → anchored, every second, for every tenant.

All that counts is in the store: a sequencer remembers nothing that it could not do without, and
one that starts after a crash runs the very same steps. Any number of processes may run one; the
store lets one of them work at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import msgspec

from muniment.config import above_zero
from muniment.diagnostics import Diagnostics
from muniment.errors import InvalidConfig
from muniment.growing import grow
from muniment.stores.trees import Lag, Published, Tree, Trees
from muniment.watching import Sequencing

if TYPE_CHECKING:  # `cryptography` is loaded only where there is a key to sign with
    from muniment.anchoring import Anchoring
    from muniment.keys import SigningKey
    from muniment.signing import Signer

DEFAULT_INTERVAL: Final = 1.0
_BATCH: Final = 4_096
"""Events that one transaction gives their leaves: as many as a commit may hold up others."""
_PUBLISHED_AT_ONCE: Final = 500
_PATROL: Final = 30.0
_PATIENCE: Final = 1.0
_LEAST_REST: Final = 0.01
_SILENT: Final = 5
"""Intervals after which a round that has not ended counts as lag."""


class SequencerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a sequencer signs with, where its checkpoints go, and its `interval` in seconds."""

    keys: tuple[SigningKey, ...] = ()
    anchors: tuple[str, ...] = ()
    interval: float = DEFAULT_INTERVAL


def sequencer_options(
    *,
    keys: Sequence[SigningKey] | None,
    anchors: Sequence[str] | None,
    interval: float,
    environment: Mapping[str, str] = os.environ,
) -> SequencerOptions:
    """The options as given; keys and anchors that are None are the environment's.

    Those are `MUNIMENT_SIGNING_KEY` or `MUNIMENT_SIGNING_KEY_FILE`, and `MUNIMENT_ANCHORS`, URLs
    with white space between them. Raises `InvalidConfig`.
    """
    above_zero(sequence_interval=interval)
    if keys is None:
        keys = ()
        if any(name.startswith("MUNIMENT_SIGNING_KEY") for name in environment):
            from muniment.keys import signing_keys

            keys = signing_keys(environment)
    elif keys:
        from muniment.keys import KeyKind

        if {key.kind for key in keys} != {KeyKind.LOG} or len({key.name for key in keys}) > 1:
            raise InvalidConfig("signing_keys: must be keys of a log, all of one name")
    if anchors is None:
        anchors = environment.get("MUNIMENT_ANCHORS", "").split()
    if anchors:
        from muniment.anchors import anchors_from

        anchors_from(anchors)  # raises what is wrong with them before anything begins
    return SequencerOptions(keys=tuple(keys), anchors=tuple(anchors), interval=interval)


def make_sequencer(
    trees: Trees, options: SequencerOptions, *, diagnostics: Diagnostics
) -> Sequencer:
    """A sequencer that has not begun, for the running event loop."""
    signer: Signer | None = None
    anchoring: Anchoring | None = None
    if options.keys:
        from muniment.signing import Signer

        signer = Signer(options.keys)
    if options.anchors:
        from muniment.anchoring import Anchoring
        from muniment.anchors import anchors_from

        anchoring = Anchoring(trees, anchors_from(options.anchors), diagnostics=diagnostics)
    return Sequencer(
        trees,
        diagnostics=diagnostics,
        signer=signer,
        anchoring=anchoring,
        interval=options.interval,
    )


class Sequencer:
    """Gives events their leaves, and signs what each tenant's tree has become.

    Without a `signer`, trees grow and nothing is published. `interval` is in seconds, from the
    beginning of a round to that of the next; behind a backlog the next one begins at once.
    """

    def __init__(
        self,
        trees: Trees,
        *,
        diagnostics: Diagnostics,
        signer: Signer | None = None,
        anchoring: Anchoring | None = None,
        interval: float = DEFAULT_INTERVAL,
        batch: int = _BATCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trees = trees
        self._diagnostics = diagnostics
        self._signer = signer
        self._anchoring = anchoring
        self._interval = interval
        self._batch = batch
        self._clock = clock
        self._lag = Lag()
        self._measured_at = clock()
        self._is_behind = False
        self._integrated = self._published = 0
        self._why_not: str | None = None
        self._is_allowed = False
        self._error: str | None = None
        self._unsigned: str | None = None
        self._patrolled: float | None = None
        self._closing = asyncio.Event()
        self._is_abandoned = False
        # The application may fill the loop's own threads with work of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="muniment-sign")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        if self._anchoring is not None:
            self._anchoring.start()
        self._task = asyncio.create_task(self._run(), name="muniment-sequencer")

    def state(self) -> Sequencing:
        """What it does now, from any thread."""
        silent = self._clock() - self._measured_at
        return Sequencing(
            # Of a round that does not end, its store being hung, nothing else tells.
            lag_seconds=self._lag.seconds + (silent if silent > _SILENT * self._interval else 0.0),
            culprits=self._lag.culprits,
            integrated=self._integrated,
            published=self._published,
            signs=self._signer is not None,
            why_not=self._why_not,
            error=self._error,
            unanchored=self._anchoring.errors if self._anchoring else {},
        )

    async def close(self, *, catch_up: float = 1.0) -> None:
        """Stop, after a last round of up to `catch_up` seconds over what was recorded.

        A store that hangs holds nobody up: its own `close` ends what is at it.
        """
        if self._task is None:
            return
        self._closing.set()
        done, _ = await asyncio.wait({self._task}, timeout=catch_up)
        if not done:
            self._is_abandoned = True
            self._task.cancel()  # which the store's driver may lose on its way
            await asyncio.wait({self._task}, timeout=_PATIENCE)
        self._task = None
        self._thread.shutdown(wait=False)
        if self._anchoring is not None:
            await self._anchoring.close(patience=catch_up)

    async def run_once(self, *, patience: float = 60.0) -> None:
        """Do all there is to do, without having begun; anchors have `patience` seconds.

        Raises `StoreError`.
        """
        if self._anchoring is not None:
            self._anchoring.start()
        try:
            while await self.round():
                pass
        finally:
            self._thread.shutdown(wait=False)
            if self._anchoring is not None:
                await self._anchoring.close(patience=patience)

    async def round(self) -> int:
        """One round: integrate all there is, publish, and measure the lag. Returns how many events.

        Raises `StoreError`; whatever was done by then is done.
        """
        if not self._is_allowed:
            self._why_not = await self._trees.why_not()
            self._is_allowed = self._why_not is None
        count = 0
        if self._is_allowed:
            count = await self._integrate()
            if self._signer is not None:
                await self._publish(self._signer)
        self._lag = await self._trees.lag()
        self._measured_at = self._clock()
        self._error = self._unsigned
        return count

    async def _run(self) -> None:
        while True:
            is_last = self._closing.is_set()
            began = self._clock()
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - whatever it is, sequencing must go on
                self._error = str(error) or repr(error)
                self._diagnostics.report(
                    logging.WARNING, "sequence", "sequencing waits: %s", self._error
                )
            if is_last or self._is_abandoned:
                return
            if self._is_behind:
                self._is_behind = False
                continue
            rest = self._interval - (self._clock() - began)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), max(rest, _LEAST_REST))

    async def _integrate(self) -> int:
        """Give pending events their leaves, for up to one interval, so that publishing goes on.

        On disk after each step: some more events have leaves, tiles and a place in their tree, and
        the state says so, all in one transaction. A restart goes on behind the last of them; an
        answer that was lost makes no difference, for the next step asks the store.
        """
        count, until = 0, self._clock() + self._interval
        while True:
            done = await self._trees.integrate(self._batch, grow)
            count += done
            self._integrated += done
            self._is_behind = done >= self._batch
            if not self._is_behind or self._clock() >= until:
                return count

    async def _publish(self, signer: Signer) -> None:
        """Sign and keep a checkpoint of each tree that has grown.

        On disk before: trees larger than their newest checkpoint. After: the checkpoints. A restart
        signs what the trees are then: a note that was signed and not kept has gone to nobody.
        """
        while True:
            grown = await self._trees.unpublished(_PUBLISHED_AT_ONCE)
            kept = await self._publish_some(signer, grown) if grown else 0
            if kept == 0 or len(grown) < _PUBLISHED_AT_ONCE:
                break  # none kept: another process publishes the same trees
        now = self._clock()
        if self._anchoring and (self._patrolled is None or now - self._patrolled > _PATROL):
            # On disk: checkpoints that were published and not marked. They are anchored again.
            await self._anchoring.take_left_over()
            self._patrolled = now

    async def _publish_some(self, signer: Signer, grown: Sequence[Tree]) -> int:
        signed, failed = await asyncio.get_running_loop().run_in_executor(
            self._thread, _signed, signer, grown
        )
        self._unsigned = failed
        if failed is not None:
            self._diagnostics.report(logging.ERROR, "sign", "not every tree is signed: %s", failed)
        refused = set(await self._trees.publish(signed)) if signed else set()
        kept = [each for each in signed if each.tenant_id not in refused]
        self._published += len(kept)
        if self._anchoring is not None:
            self._anchoring.hand_over(kept)
        return len(kept)


def _signed(signer: Signer, grown: Sequence[Tree]) -> tuple[list[Published], str | None]:
    """The checkpoints of trees; one that can't be signed does not keep the others from it."""
    signed, failed = [], None
    for tree in grown:
        try:
            signed.append(signer.sign(tree))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is this tenant's
            failed = failed or f"tenant {tree.tenant_id!r}: {str(error) or repr(error)}"
    return signed, failed
