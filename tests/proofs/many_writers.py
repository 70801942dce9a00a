"""What several writing processes left in a store, read without the code that proofs are made by.

Bundles, tiles, bodies and checkpoints come from the store's tables as they are; consistency proofs
are the store's own answers, for others to check.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from muniment.diagnostics import Diagnostics
from muniment.proving import prove_consistency
from muniment.sequencer import Sequencer
from muniment.signing import Signer
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.trees import ID_BYTES, Published
from tests.proofs.trails import LOG_KEY
from tests.proofs.writing_process import TENANTS

_ROOT: Final = Path(__file__).parents[2]
_READ: Final = 5_000
_HASH: Final = 32


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The store's answer to whether the newer checkpoint's tree grew out of the older one's."""

    old: Published
    new: Published
    hashes: list[bytes]


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's: what was acknowledged, and what the store holds, in the order of leaves."""

    tenant_id: str
    acknowledged: list[str]
    bodies: dict[str, bytes]
    """By event_id."""
    event_ids: list[str]
    leaf_hashes: list[bytes]
    checkpoints: list[Published]
    proofs: list[Proof]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a run left behind."""

    trails: list[Trail]

    def told(self) -> str:
        """The run's figures in one line."""
        return (
            f"{sum(len(t.acknowledged) for t in self.trails):,} events acknowledged, "
            f"{sum(len(t.event_ids) for t in self.trails):,} leaves, "
            f"{sum(len(t.checkpoints) for t in self.trails):,} checkpoints, "
            f"{sum(len(t.proofs) for t in self.trails):,} consistency proofs"
        )


async def written(
    url: str, directory: Path, *, writers: int, seconds: float, interval: float, seed: int
) -> Written:
    """Let processes write at the same time, each sequencing too; then read what is there."""
    files = [directory / f"acknowledged-{n}" for n in range(writers)]
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "tests.proofs.writing_process"),
            json.dumps(
                {
                    "url": url,
                    "acknowledged": str(file),
                    "spool": str(directory / f"spool-{n}"),
                    "seconds": seconds,
                    "interval": interval,
                    "seed": seed + n,
                }
            ),
            cwd=_ROOT,
        )
        for n, file in enumerate(files)
    ]
    try:
        codes = [await process.wait() for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert codes == [0] * writers
    acknowledged: dict[str, list[str]] = {tenant_id: [] for tenant_id in TENANTS}
    for file in files:
        for line in file.read_text().splitlines():
            tenant_id, event_id = line.split()
            acknowledged[tenant_id].append(event_id)
    store = open_store(url)
    await store.open()
    try:
        # What came in behind the last round of the last process that closed.
        sequencer = Sequencer(
            store.trees, diagnostics=Diagnostics(), signer=Signer([LOG_KEY]), interval=interval
        )
        await sequencer.run_once()
        bodies = await _bodies(store)
        chance = random.Random(seed)  # noqa: S311 - it only has to vary
        trails = [
            await _trail(store, tenant_id, acknowledged[tenant_id], bodies[tenant_id], chance)
            for tenant_id in TENANTS
        ]
    finally:
        await store.close()
    return Written(trails=trails)


async def _bodies(store: Store) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {tenant_id: {} for tenant_id in TENANTS}
    position: str | None = None
    while items := await store.read(position, _READ):
        position = items[-1].position
        for item in items:
            assert item.stored.body is not None
            assert item.stored.event_id not in found[item.stored.tenant_id]
            found[item.stored.tenant_id][item.stored.event_id] = item.stored.body.encode()
    return found


async def _trail(
    store: Store,
    tenant_id: str,
    acknowledged: list[str],
    bodies: dict[str, bytes],
    chance: random.Random,
) -> Trail:
    counts = await store.trees.row_counts(tenant_id)
    event_ids: list[str] = []
    leaf_hashes: list[bytes] = []
    for number in range(counts.bundles):
        (bundle,) = await store.trees.bundles(tenant_id, number, 1)
        tiles = await store.trees.tiles(tenant_id, [(0, number)])
        event_ids += [_text(each) for each in _cut(bundle.event_ids, ID_BYTES)]
        leaf_hashes += _cut(tiles[0, number], _HASH)
    checkpoints = await store.trees.checkpoints(tenant_id, 0, counts.checkpoints + 1)
    # Who is consistent with the one before is so with all before. Others are drawn beside them.
    pairs = list(pairwise(checkpoints))
    pairs += [_two(checkpoints, chance) for _ in range(min(len(pairs), 100))]
    proofs = [
        Proof(
            old=old,
            new=new,
            hashes=list(
                await prove_consistency(store.trees, tenant_id, old.tree_size, new.tree_size)
            ),
        )
        for old, new in pairs
    ]
    return Trail(
        tenant_id=tenant_id,
        acknowledged=acknowledged,
        bodies=bodies,
        event_ids=event_ids,
        leaf_hashes=leaf_hashes,
        checkpoints=checkpoints,
        proofs=proofs,
    )


def _two(checkpoints: Sequence[Published], chance: random.Random) -> tuple[Published, Published]:
    first, second = sorted(chance.sample(range(len(checkpoints)), 2))
    return checkpoints[first], checkpoints[second]


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[n : n + size] for n in range(0, len(data), size)]


def _text(event_id: bytes) -> str:
    text = event_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
