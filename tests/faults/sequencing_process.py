"""Processes that sequence and sign, one after the other, each of them forked when it is told to.

Usage: python -m tests.faults.sequencing_process

Reads settings from its standard input (a line of JSON for each; see `sequencing.Nursery.begin`),
and runs a child with a log of its own for each. So a child begins at once: all is imported. It
writes one JSON array a line: ["began", pid], ["ended", status]; and the child ["signed",
tenant_id, tree_size, root_hash] before a checkpoint goes anywhere, ["told", tenant_id, event_id],
["at", step] where it pauses until SIGUSR1, ["failed", step]. A child ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from itertools import count
from typing import Any

import muniment.anchors.witness  # noqa: F401 - so that no child has to
from muniment import AuditLog
from muniment.signing import Signer  # noqa: F401 - the same
from muniment.stores import open_store
from muniment.testing import FaultyStore
from tests.faults.dying import DyingTrees, Moment
from tests.proofs.trails import LOG_KEY


async def run(settings: dict[str, Any]) -> None:
    """Sequence, and record from as many tasks as are wanted, until SIGTERM."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    real = open_store(settings["url"])
    store = FaultyStore(real)
    moment = Moment(*settings["moment"]) if settings["moment"] else None
    pause = (settings["pause"], _pause(settings["pause"])) if settings["pause"] else None
    store.trees = DyingTrees(real.trees, moment, say=_say, pause=pause)
    numbers = count()
    async with AuditLog(store, signing_keys=[LOG_KEY], **settings["options"]) as log:

        async def record(tenant_id: str) -> None:
            while not ending.is_set():
                details = {"round": settings["round"], "n": next(numbers)}
                receipt = await log.record("tick", tenant_id=tenant_id, details=details)
                _say("told", tenant_id, receipt.event_id)

        await asyncio.gather(ending.wait(), *map(record, settings["tenants"]))


def _pause(step: str) -> Any:
    """A function that waits for SIGUSR1 when it is called for the first time."""
    going_on = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, going_on.set)

    async def pause() -> None:
        if not going_on.is_set():
            _say("at", step)
            await going_on.wait()

    return pause


def _say(*words: Any) -> None:
    """What is written to the pipe outlives this process."""
    os.write(1, json.dumps(words).encode() + b"\n")


def main() -> None:
    """Fork a child for each line."""
    gc.freeze()
    for line in sys.stdin:
        # One that comes before the child can take it waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = os.fork()
        if not child:
            asyncio.run(run(json.loads(line)))
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _say("began", child)
        _, status = os.waitpid(child, 0)
        _say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
