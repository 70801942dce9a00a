"""Holds each tenant's tree against its events, and all checkpoints ever signed against it.

Hashes and roots are computed by pymerkle, proofs are verified by scitt-cose; what our own fsck
finds is added.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Final

import msgspec
import pymerkle
import scitt_cose

from muniment.anchors import CheckpointDirectory
from muniment.checkpoint import open_checkpoint
from muniment.errors import VerificationError
from muniment.fsck import Finding, fsck
from muniment.keys import VerifyingKey
from muniment.proving import prove_consistency
from muniment.stores.base import Store
from muniment.stores.trees import BUNDLE_WIDTH, ID_BYTES
from muniment.tiles import hashes_in
from tests.faults.oracle import Verdict, read_on

Signed = tuple[str, int, bytes]
"""(tenant_id, tree_size, root_hash) of a checkpoint that a process has signed."""

_MANY: Final = 100_000


class Judgement(msgspec.Struct, frozen=True):
    """What became of acknowledged events' leaves, and what is wrong with trees, in words."""

    leaves: Verdict
    problems: tuple[str, ...]


class TrailOracle:
    """Judges a store and a directory of checkpoints."""

    def __init__(self, store: Store, anchored: CheckpointDirectory, key: VerifyingKey) -> None:
        self._store = store
        self._anchored = anchored
        self._key = key

    async def judge(
        self, acknowledged: Mapping[str, Collection[str]], signed: Collection[Signed]
    ) -> Judgement:
        """What is there now: `acknowledged` are event_ids by tenant, which are to have a leaf."""
        trails = {
            tenant: _Trail(tenant, self._store, self._anchored, self._key)
            for tenant in acknowledged
        }
        problems: list[str] = []
        for tenant_id, trail in trails.items():
            await trail.read()
            mine = [(size, root) for tenant, size, root in signed if tenant == tenant_id]
            problems += [f"{tenant_id}: {each}" for each in await trail.problems(mine)]
        findings: list[Finding] = []
        await fsck(self._store, keys=[self._key], tell=findings.append)
        problems += [f"{each.tenant_id}: fsck: {each.message}" for each in findings]
        verdict = Verdict(
            acknowledged=sum(map(len, acknowledged.values())),
            missing=tuple(
                event_id
                for tenant, event_ids in acknowledged.items()
                for event_id in sorted(set(event_ids) - set(trails[tenant].leaf_ids))
            ),
            doubled=tuple(
                event_id
                for trail in trails.values()
                for event_id, times in Counter(trail.leaf_ids).items()
                if times > 1
            ),
            stray=tuple(
                event_id
                for trail in trails.values()
                for event_id in sorted(set(trail.leaf_ids) - set(trail.event_ids))
            ),
        )
        return Judgement(verdict, tuple(problems))


class _Trail:
    """One tenant's events, leaves and checkpoints, read so that a log may grow meanwhile."""

    def __init__(
        self, tenant_id: str, store: Store, anchored: CheckpointDirectory, key: VerifyingKey
    ) -> None:
        self._tenant_id = tenant_id
        self._store = store
        self._anchored = anchored
        self._key = key.for_tenant(tenant_id)
        self._tree = pymerkle.InmemoryTree(algorithm="sha256")
        self._at_anchor: dict[int, str] = {}
        self._published: dict[int, str] = {}
        self._leaf_hashes: list[bytes] = []
        self.leaf_ids: list[str] = []
        self.event_ids: list[str] = []

    async def read(self) -> None:
        """Read what is the last to be written first: the rest is there by then."""
        trees, tenant_id = self._store.trees, self._tenant_id
        self._at_anchor = await asyncio.to_thread(self._read_anchored)
        kept = await trees.checkpoints(tenant_id, 0, _MANY)
        self._published = {each.tree_size: each.note for each in kept}
        tree = await trees.tree(tenant_id)
        size = tree.tree_size if tree else 0
        width = -(-size // BUNDLE_WIDTH)
        tiles = await trees.tiles(tenant_id, [(0, index) for index in range(width)])
        for index in range(width):
            self._leaf_hashes += hashes_in(tiles.get((0, index), b""))
        del self._leaf_hashes[size:]
        ids = b"".join(each.event_ids for each in await trees.bundles(tenant_id, 0, width))
        self.leaf_ids = [
            _event_id(ids[place : place + ID_BYTES])
            for place in range(0, min(len(ids), size * ID_BYTES), ID_BYTES)
        ]
        async for item in read_on(self._store, None):
            if item.stored.tenant_id == tenant_id:
                assert item.stored.body is not None
                self.event_ids.append(item.stored.event_id)
                self._tree.append_entry(item.stored.body.encode())

    def _read_anchored(self) -> dict[int, str]:
        origin = self._key.name
        sizes = self._anchored.sizes(origin)
        return {size: self._anchored.read(origin, size) for size in sizes}

    async def problems(self, signed: Collection[tuple[int, bytes]]) -> list[str]:
        """What is wrong, in words."""
        size = len(self.leaf_ids)
        found = []
        if self.leaf_ids != self.event_ids[:size]:
            found.append("leaves do not stand in the order of recording")
        if self._leaf_hashes != [self._tree.get_leaf(n + 1) for n in range(len(self._leaf_hashes))]:
            found.append("leaf hashes are not those of the bodies")
        for where, notes in (("published", self._published), ("anchored", self._at_anchor)):
            for each, note in notes.items():
                try:
                    checkpoint = open_checkpoint(note, [self._key])
                except VerificationError as error:
                    found.append(f"{where} checkpoint of {each} leaves: {error}")
                    continue
                if checkpoint.tree_size != each or checkpoint.root_hash != self._root(each):
                    found.append(f"{where} checkpoint of {each} leaves is of another tree")
        found += [
            f"a checkpoint of {each} leaves was signed over another tree"
            for each, root in signed
            if root != self._root(each)
        ]
        found += [
            f"the anchored checkpoint of {each} leaves was never published"
            for each in self._at_anchor.keys() - self._published.keys()
        ]
        return found + await self._inconsistent()

    async def _inconsistent(self) -> list[str]:
        """Proofs between neighbours, from the tiles, as whoever holds both would ask for them."""
        found = []
        for old, new in pairwise(sorted(self._published)):
            try:
                hashes = await prove_consistency(self._store.trees, self._tenant_id, old, new)
            except VerificationError as error:
                found.append(f"no proof from {old} to {new} leaves: {error}")
                continue
            roots = self._root(old), self._root(new)
            if None in roots or not scitt_cose.verify_consistency(
                *(root.hex() for root in roots if root is not None),
                old,
                new,
                [each.hex() for each in hashes],
            ):
                found.append(f"the tree of {new} leaves did not grow out of that of {old}")
        return found

    def _root(self, size: int) -> bytes | None:
        """What the root of the first `size` events is; None if there are not so many."""
        if size > len(self.event_ids):
            return None
        root: bytes = self._tree.get_root(size)
        return root


def _event_id(raw: bytes) -> str:
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
