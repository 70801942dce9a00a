"""Trees: leaves hashed and grown in memory and in the stores, and an evidence file verified."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Final

from bench.measuring import Case, Round, Timing, WorkMissing, round_of
from bench.postgres import COUNT_EVENTS, count, fresh_database, upgrade
from bench.recording import LIST_LENGTH
from bench.sqlite import count_events as count_in_file
from bench.workload import ACTION, fields_of, happenings
from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.evidence import EvidenceWriter, verify_evidence
from muniment.growing import grow
from muniment.keys import SigningKey
from muniment.merkle import Frontier, leaf_hash
from muniment.sealing import Sealer
from muniment.stores import open_store
from muniment.stores.base import Sealed, Store
from muniment.stores.trees import PendingEvent, Tree
from tests.servers.postgres import Postgres

GROUP: Final = "trees"
BATCH: Final = 4_096
"""Events that a sequencer integrates at a time."""
TENANTS: Final = 10
KEY: Final = SigningKey.from_seed("audit.example/log", b"\1" * 32)

HASHING: Final = "SHA-256 of bodies"
GROWING: Final = "hash and grow, in memory"
VERIFYING: Final = "verify evidence"
STORES: Final = ("SQLite", "PostgreSQL")

Place = Callable[[], AbstractContextManager[str]]
"""Gives the URL of an empty database, which is gone behind the block."""


def appending(store: str) -> str:
    """The name of the case that records what is then integrated."""
    return f"{store}: append"


def integrating(store: str) -> str:
    """The name of the case that gives leaves to what was recorded."""
    return f"{store}: integrate"


def sealed_events(count: int, tenants: int = TENANTS) -> Iterator[Sealed]:
    """Events of 400 to 600 bytes, of so many tenants in turn; no two are alike."""
    sealer, next_happening = Sealer(), happenings()
    for n in range(count):
        fields = fields_of(next_happening())
        fields["tenant_id"] = f"tenant-{n % tenants}"
        fields["details"] = {"document": n, "step": "review", "cost": f"{n % 97}.50 EUR"}
        yield sealer.seal_call(ACTION, dict(fields))


def tree_cases(directory: Path, server: Postgres | None, count: int) -> list[Case]:
    """What is measured over `count` events; in PostgreSQL only where there is a server."""
    work = _Work(directory, count)
    measures = [(HASHING, work.hash), (GROWING, work.grow), (VERIFYING, work.verify)]
    for name, place in places(directory, server).items():
        filled = _Filled(work, place)
        measures += [(appending(name), filled.append), (integrating(name), filled.integrate)]
    return [Case(group=GROUP, name=name, tasks=1, measure=measure) for name, measure in measures]


def places(directory: Path, server: Postgres | None) -> dict[str, Place]:
    """Where databases are made, for each store; PostgreSQL only where there is a server."""
    found: dict[str, Place] = {STORES[0]: partial(_sqlite_url, directory)}
    if server is not None:
        found[STORES[1]] = partial(fresh_database, server)
    return found


@contextmanager
def _sqlite_url(directory: Path) -> Iterator[str]:
    with TemporaryDirectory(dir=directory) as fresh:
        yield f"sqlite:///{Path(fresh) / 'audit.db'}"


class _Work:
    """The events, made once and kept in memory; and the evidence file."""

    def __init__(self, directory: Path, count: int) -> None:
        self._directory = directory
        self._count = count

    @cached_property
    def events(self) -> list[Sealed]:
        return list(sealed_events(self._count))

    @cached_property
    def ids(self) -> list[bytes]:
        return [bytes.fromhex(event.event_id.replace("-", "")) for event in self.events]

    @cached_property
    def evidence(self) -> Path:
        """A file of one tenant's whole log, as `muniment export --evidence` writes it."""
        bodies = [event.body for event in sealed_events(self._count, 1)]
        frontier = Frontier()
        frontier.extend(leaf_hash(body) for body in bodies)
        key = KEY.for_tenant("tenant-0")
        checkpoint = Checkpoint(origin=key.name, tree_size=frontier.size, root_hash=frontier.root())
        path = self._directory / "evidence.jsonl"
        with EvidenceWriter(
            path,
            tenant_id="tenant-0",
            checkpoint=sign_checkpoint(checkpoint, [key]),
            first_leaf=0,
            leaves=len(bodies),
        ) as writer:
            for body in bodies:
                writer.event(body)
        return path

    async def hash(self) -> Round:
        bodies = [event.body for event in self.events]
        began = perf_counter_ns()
        hashes = [hashlib.sha256(b"\0" + body).digest() for body in bodies]
        took = perf_counter_ns() - began
        return _whole(len(bodies), took, found=len(hashes))

    async def grow(self) -> Round:
        """As the sequencer does it, a batch at a time, with nothing stored."""
        trees: dict[str, Tree] = {}
        given = list(zip(self.events, self.ids, strict=True))
        times = []
        for start in range(0, len(given), BATCH):
            before = perf_counter_ns()
            pending = [
                PendingEvent(str(n), event.tenant_id, event_id, leaf_hash(event.body))
                for n, (event, event_id) in enumerate(given[start : start + BATCH], start)
            ]
            for growth in grow(pending, trees):
                trees[growth.tree.tenant_id] = growth.tree
            times.append(perf_counter_ns() - before)
        found = sum(tree.tree_size for tree in trees.values())
        return round_of(Timing(len(given), sum(times) / 1e9, times), found=found)

    async def verify(self) -> Round:
        path = self.evidence
        with path.open("rb") as file:
            began = perf_counter_ns()
            verified = verify_evidence(file, [KEY.verifier])
            took = perf_counter_ns() - began
        return _whole(verified.events, took, found=verified.tree_size)


class _Filled:
    """A store that is filled by one case, and then drained by the next."""

    def __init__(self, work: _Work, place: Place) -> None:
        self._work = work
        self._place = place
        self._stack = ExitStack()
        self._url = ""

    async def append(self) -> Round:
        """Ingest at its fastest: sealed events in lists, without a queue or anybody who waits."""
        self._url = self._stack.enter_context(self._place())
        await upgrade(self._url)
        times = []
        async with opened(self._url) as store:
            events = self._work.events
            for start in range(0, len(events), LIST_LENGTH):
                before = perf_counter_ns()
                await store.append(events[start : start + LIST_LENGTH])
                times.append(perf_counter_ns() - before)
        found = await count_events(self._url)
        return round_of(Timing(len(events), sum(times) / 1e9, times), found=found)

    async def integrate(self) -> Round:
        """The same events get their leaves; the store is dropped."""
        times = []
        with self._stack:
            async with opened(self._url) as store:
                count, done = 0, BATCH
                while done == BATCH:
                    before = perf_counter_ns()
                    done = await store.trees.integrate(BATCH, grow)
                    times.append(perf_counter_ns() - before)
                    count += done
                found = sum(tree.tree_size for tree in await store.trees.trees(None, TENANTS + 1))
        if count != len(self._work.events):
            raise WorkMissing(f"{count} events of {len(self._work.events)} were integrated")
        return round_of(Timing(count, sum(times) / 1e9, times), found=found)


async def count_events(url: str) -> int:
    """How many events are stored there."""
    if url.startswith("sqlite"):
        return count_in_file(Path(url.removeprefix("sqlite:///")))
    return await count(url, COUNT_EVENTS)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """The store at `url`, open."""
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def _whole(count: int, nanoseconds: int, *, found: int) -> Round:
    """The round of one call that did all."""
    return round_of(Timing(count, nanoseconds / 1e9, [nanoseconds]), found=found)
