"""Runs sequencing processes, and keeps what they say: that survives whatever happens to them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from muniment import AuditLog
from muniment.anchors import CheckpointDirectory
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.witness import Answer, Ledger, Witness
from muniment.witness.server import WitnessServer
from tests.faults.oracle import Verdict
from tests.faults.trail_oracle import Signed, TrailOracle
from tests.proofs.trails import LOG_KEY, WITNESS_KEY

TENANTS: Final = ("acme", "globex", "système/ω")
INTERVAL: Final = 0.02
_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 60.0
_PAUSE: Final = 0.005
_BETWEEN_EVENTS: Final = 0.004


class Nursery:
    """Begins sequencing processes, one after the other; `told` and `signed` are what all said."""

    def __init__(self, process: Process, site: Site) -> None:
        self._process = process
        self._site = site
        self._pid: int | None = None
        self._status: int | None = None
        self._rounds = 0
        self._moment: tuple[str, str, int] | None = None
        self._reading = asyncio.create_task(self._read())
        self.paused_at: str | None = None
        self.failed: list[str] = []

    async def begin(
        self,
        *,
        moment: tuple[str, str, int] | None = None,
        pause: str | None = None,
        tenants: Sequence[str] = (),
        url: str | None = None,
    ) -> None:
        """Begin one that dies at that moment, pauses before that step, or records for tenants."""
        assert self._process.stdin is not None
        assert self._pid is None
        self._rounds += 1
        self._moment = moment
        self._status = self.paused_at = None
        self.failed = []
        settings = {
            "url": url or self._site.url,
            "moment": moment,
            "pause": pause,
            "tenants": tenants,
            "round": f"{self._process.pid}-{self._rounds}",
            "options": {
                "spool_dir": str(self._site.directory / f"spool-{self._process.pid}"),
                "anchors": self._site.anchors,
                "sequence_interval": INTERVAL,
                "deadline": _PATIENCE,
            },
        }
        self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        # It may have died already, before we look.
        await self._until(lambda: self._pid is not None or self._status is not None)

    async def died(self) -> None:
        """Return once it was ended by SIGKILL."""
        await self._until(lambda: self._pid is None)
        assert self._status == -signal.SIGKILL, self._moment

    async def kill(self) -> None:
        """End it by SIGKILL."""
        assert self._pid is not None, f"it ended by itself: {self._status}"
        os.kill(self._pid, signal.SIGKILL)
        await self.died()

    async def finish(self) -> None:
        """Have it close its log and end."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGTERM)
        await self._until(lambda: self._pid is None)
        assert self._status == 0, f"it ended with {self._status}"

    async def pauses(self) -> None:
        """Return once it has paused."""
        await self._until(lambda: self.paused_at is not None)

    def go_on(self) -> None:
        """Let it go on from where it paused."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGUSR1)

    async def fails(self, step: str) -> None:
        """Return once it was told that the step failed."""
        await self._until(lambda: step in self.failed)

    async def close(self) -> None:
        """End the nursery, and whatever it runs."""
        if self._pid is not None:
            await self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while not condition():
            assert not self._reading.done(), "the nursery ended by itself"
            assert asyncio.get_running_loop().time() < deadline, f"never came: {self._moment}"
            await asyncio.sleep(_PAUSE)

    async def _read(self) -> None:
        """The last line of one that was killed is whole: it is shorter than PIPE_BUF."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            kind, *words = json.loads(line)
            if kind == "began":
                self._pid = words[0]
            elif kind == "ended":
                self._pid, self._status = None, words[0]
            elif kind == "told":
                self._site.told[words[0]].append(words[1])
            elif kind == "signed":
                self._site.note_signed(kind, *words)
            elif kind == "at":
                self.paused_at = words[0]
            else:
                self.failed.append(words[0])


class Site:
    """A store, a directory and a witness that checkpoints go to, and what processes said of them.

    `told` are the ids of acknowledged events by tenant, `answers` the codes of the witness.
    """

    def __init__(self, url: str, directory: Path, store: Store, log: AuditLog) -> None:
        self.url = url
        self.directory = directory
        self.store = store
        self.anchored = CheckpointDirectory(directory / "anchored")
        self.anchors = [f"dir:{self.anchored.path}"]
        self.told: defaultdict[str, list[str]] = defaultdict(list)
        self.signed: set[Signed] = set()
        self.answers: list[int] = []
        self._log = log

    def oracle(self) -> TrailOracle:
        """Judges what all of this has become."""
        return TrailOracle(self.store, self.anchored, LOG_KEY.verifier)

    def note_signed(self, _: str, tenant_id: str, tree_size: int, root_hash: str) -> None:
        """Keep what was signed, as `DyingTrees` says it."""
        self.signed.add((tenant_id, tree_size, bytes.fromhex(root_hash)))

    async def record(self, count: int) -> None:
        """Record so many events for each tenant, a moment between them."""
        for n in range(count):
            for tenant_id in TENANTS:
                receipt = await self._log.record("tick", tenant_id=tenant_id, details={"n": n})
                self.told[tenant_id].append(receipt.event_id)
                await asyncio.sleep(_BETWEEN_EVENTS)

    async def recorded(self, count: int) -> None:
        """Return once so many more events are acknowledged."""
        goal = self._told_in_all() + count
        async with asyncio.timeout(_PATIENCE):
            while self._told_in_all() < goal:  # noqa: ASYNC110 - by other processes, too
                await asyncio.sleep(_PAUSE)

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Recording goes on during the block."""
        task = asyncio.create_task(self.record(sys.maxsize))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled()

    async def settled(self) -> None:
        """Return once all that is recorded is published, and is at every anchor."""
        trees = self.store.trees
        async with asyncio.timeout(_PATIENCE):
            while (  # noqa: ASYNC110 - what is looked at is elsewhere
                (await trees.lag()).seconds
                or await trees.unpublished(1)
                or await trees.unanchored(1)
            ):
                await asyncio.sleep(_PAUSE)

    async def judged(self) -> Verdict:
        """What became of the leaves of all that was acknowledged; all else has to be right."""
        judgement = await self.oracle().judge(self.told, self.signed)
        assert not judgement.problems, "\n".join(judgement.problems)
        return judgement.leaves

    def _told_in_all(self) -> int:
        return sum(map(len, self.told.values()))


@asynccontextmanager
async def site(url: str, directory: Path, *, with_witness: bool = False) -> AsyncIterator[Site]:
    """A site over an empty store; with a witness, a real one answers on the loopback."""
    store = open_store(url)
    async with AsyncExitStack() as stack:
        # No deadline: nothing of this process goes to the spool, so it is in the store when told.
        log = AuditLog.open(url, sequence=False, spool_dir=directory / "spool", deadline=_PATIENCE)
        await stack.enter_async_context(log)
        await store.open()
        stack.push_async_callback(store.close)
        here = Site(url, directory, store, log)
        if with_witness:
            await _add_witness(here, stack)
        yield here
        refused = here.answers and set(here.answers) - {200, 409}
        assert not refused, f"the witness answered {refused}"


class _Heard(Witness):
    """Notes what it answers."""

    answers: list[int]

    def add_checkpoint(self, body: bytes) -> Answer:
        answer = super().add_checkpoint(body)
        self.answers.append(answer.code)
        return answer


async def _add_witness(here: Site, stack: AsyncExitStack) -> None:
    ledger = Ledger(here.directory / "witness.db")
    stack.callback(ledger.close)
    witness = _Heard(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    witness.answers = here.answers
    server = WitnessServer(witness)
    url = await server.start("127.0.0.1", 0)
    stack.push_async_callback(server.close)
    here.anchors.append(f"witness+{url}#{WITNESS_KEY.verifier.text()}")


@asynccontextmanager
async def nursery(here: Site) -> AsyncIterator[Nursery]:
    """A nursery for a site; all that it runs is ended at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.sequencing_process"),
        stdin=PIPE,
        stdout=PIPE,
        cwd=_ROOT,
    )
    running = Nursery(process, here)
    try:
        yield running
    finally:
        await running.close()
