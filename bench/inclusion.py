"""An inclusion proof from a log of ten million: `log.prove`, in a tree as the stores keep it.

Its leaves are random but for those that are asked for, which are recorded events. What the trees
gain by them is stored by the stores' own code, as `integrate` does it, without events to read.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from bench.measuring import Case, Round, Timing, WorkMissing, round_of
from bench.postgres import upgrade
from bench.trees import KEY, Place, opened, places, sealed_events
from muniment import AuditLog
from muniment.growing import grow
from muniment.merkle import HASH_BYTES
from muniment.proofs import InclusionProof
from muniment.signing import Signer
from muniment.stores.base import Sealed
from muniment.stores.postgres import trees as postgres_trees
from muniment.stores.postgres.append import columns_of
from muniment.stores.sqlite.append import transaction
from muniment.stores.sqlite.growths import store_growths
from muniment.stores.trees import ID_BYTES, Growth, PendingEvent, Tree
from tests.servers.postgres import Postgres

GROUP: Final = "proofs"
TENANT: Final = "tenant-0"
_CHUNK: Final = 1 << 16
_ASKED: Final = 400
_OPENINGS: Final = 40
_WARM_UP: Final = 5
_XID: Final = 3
"""The transaction that is said to have recorded all: the first that there is."""


def proving(store: str, leaves: int) -> str:
    """The name of the case in which a log that has been at it for a while proves."""
    return f"{store}: prove, {leaves:,} leaves"


def proving_first(store: str, leaves: int) -> str:
    """The name of the case in which each proof is the first of a log just opened."""
    return f"{store}: a log's first, {leaves:,} leaves"


def inclusion_cases(directory: Path, server: Postgres | None, leaves: int) -> list[Case]:
    """What is measured, once, in a tree of so many leaves in each store."""
    cases = []
    for store, place in places(directory, server).items():
        grown = _Grown(place, leaves, directory / "spools")
        for name, measure in (
            (proving(store, leaves), grown.prove),
            (proving_first(store, leaves), grown.prove_first),
        ):
            cases.append(Case(group=GROUP, name=name, tasks=1, measure=measure, once=True))
    return cases


class _Grown:
    """A store with a large tree: the first case makes it, and the last one drops it."""

    def __init__(self, place: Place, leaves: int, spools: Path) -> None:
        self._place = place
        self._leaves = leaves
        self._spools = spools
        self._stack = ExitStack()
        self._url = ""
        self._asked: list[Sealed] = []

    async def prove(self) -> Round:
        """Proofs of events all over the tree, one after the other."""
        self._url = self._stack.enter_context(self._place())
        await upgrade(self._url)
        self._asked = await _fill(self._url, self._leaves)
        times, proofs = [], []
        async with self._log() as log:
            for n, event in enumerate([*self._asked[:_WARM_UP], *self._asked]):
                before = perf_counter_ns()
                proof = await log.prove(event.event_id, tenant_id=TENANT)
                if n >= _WARM_UP:
                    times.append(perf_counter_ns() - before)
                    proofs.append(proof)
        return self._round(times, proofs, self._asked)

    async def prove_first(self) -> Round:
        """Each proof over connections that have not been used yet."""
        times, proofs = [], []
        asked = self._asked[:: max(1, len(self._asked) // _OPENINGS)]
        with self._stack:
            for event in asked:
                async with self._log() as log:
                    before = perf_counter_ns()
                    proofs.append(await log.prove(event.event_id, tenant_id=TENANT))
                    times.append(perf_counter_ns() - before)
        # As large as the others; that is told once.
        return msgspec.structs.replace(
            self._round(times, proofs, asked), proof_bytes=None, hash_bytes=None
        )

    def _log(self) -> AuditLog:
        return AuditLog.open(self._url, sequence=False, spool_dir=self._spools)

    def _round(
        self, times: list[int], proofs: Sequence[InclusionProof], asked: Sequence[Sealed]
    ) -> Round:
        """The times, if every proof holds."""
        known = [KEY.for_tenant(TENANT).verifier]
        for proof, event in zip(proofs, asked, strict=True):
            if proof.verify(event.body, known).tree_size != self._leaves:
                raise WorkMissing(f"a proof leads to another tree than that of {self._leaves}")
        sizes = (
            max(len(proof.text().encode()) for proof in proofs),
            max(len(proof.text()) - len(proof.checkpoint) for proof in proofs),
            max(len(b"".join(proof.hashes)) for proof in proofs),
        )
        timing = Timing(len(times), sum(times) / 1e9, times)
        return round_of(timing, found=len(proofs), sizes=sizes)


async def _fill(url: str, leaves: int) -> list[Sealed]:
    """Put a tree of so many leaves there, with a checkpoint; some of their events, in any order."""
    chance = random.Random(leaves)  # noqa: S311 - the same each time
    asked = list(sealed_events(min(_ASKED, leaves // 4), 1))
    numbers = sorted(chance.sample(range(leaves), len(asked)))
    by_leaf = dict(zip(numbers, asked, strict=True))
    filler = _PostgresFiller(url) if url.startswith("postgresql") else _SqliteFiller(url)
    await filler.put_events(by_leaf)
    trees: dict[str, Tree] = {}
    for start in range(0, leaves, _CHUNK):
        count = min(_CHUNK, leaves - start)
        hashes, ids = chance.randbytes(HASH_BYTES * count), chance.randbytes(ID_BYTES * count)
        pending = []
        for n in range(count):
            event = by_leaf.get(start + n)
            if event is None:
                leaf = hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES]
                event_id = ids[n * ID_BYTES : (n + 1) * ID_BYTES]
            else:
                leaf, event_id = event.leaf_hash, UUID(event.event_id).bytes
            position = filler.position(start + n)
            pending.append(PendingEvent(position, TENANT, event_id, leaf))
        growths = grow(pending, trees)
        await filler.put(growths)
        trees = {growth.tree.tenant_id: growth.tree for growth in growths}
    await filler.close()
    async with opened(url) as store:
        if await store.trees.publish([Signer([KEY]).sign(trees[TENANT])]):
            raise WorkMissing("the tree is not there, or has its checkpoint already")
    chance.shuffle(asked)
    return asked


class _SqliteFiller:
    """Puts trees into a SQLite file, as its store would."""

    def __init__(self, url: str) -> None:
        self._connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self._connection.execute("PRAGMA synchronous = OFF")

    def position(self, leaf: int) -> str:
        return str(leaf + 1)

    async def put_events(self, by_leaf: Mapping[int, Sealed]) -> None:
        sql = """
            INSERT INTO muniment_events (seq, tenant_id, event_id, leaf_hash, terms, body)
            VALUES (?, ?, ?, ?, ?, ?)
        """
        for leaf, event in by_leaf.items():
            tenant_id, event_id, leaf_hash, terms, body = columns_of(event)
            values = (leaf + 1, tenant_id, UUID(event_id).bytes, leaf_hash, terms, body)
            self._connection.execute(sql, values)

    async def put(self, growths: Sequence[Growth]) -> None:
        with transaction(self._connection):
            store_growths(self._connection, growths)

    async def close(self) -> None:
        self._connection.close()


class _PostgresFiller:
    """Puts trees into a PostgreSQL database, as its store would."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    def position(self, leaf: int) -> str:
        return f"1.{_XID}.{leaf + 1}"

    async def put_events(self, by_leaf: Mapping[int, Sealed]) -> None:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute("SELECT muniment.ensure_partition($1)", datetime.now(UTC))
        sql = f"""
            INSERT INTO muniment.events
                (tenant_id, event_id, leaf_hash, terms, body, epoch, xid, seq)
            VALUES ($1, ($2::text)::uuid, $3, $4, $5, 1, '{_XID}', $6)
        """  # noqa: S608 - our own number
        rows = [(*columns_of(event), leaf + 1) for leaf, event in by_leaf.items()]
        await self._connection.executemany(sql, rows)

    async def put(self, growths: Sequence[Growth]) -> None:
        async with self._connection.transaction():
            # As `integrate` does it.
            for statement, values in postgres_trees._statements(growths):  # noqa: SLF001
                await self._connection.execute(statement, *values)

    async def close(self) -> None:
        await self._connection.execute("VACUUM ANALYZE")  # as autovacuum does in time
        await self._connection.close()
