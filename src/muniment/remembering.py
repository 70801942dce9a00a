"""Whether a live log still holds what was remembered of it: no rollback, no fork, none gone.

What is remembered lies where the database's owner can't change it: a directory of checkpoints, in
the layout of the directory anchor, which may be one. It is the checkpoint and the upper part of the
tree that are looked at, O(log n) rows for each remembered checkpoint; `fsck` looks at all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import Final, Literal

import msgspec

from muniment.anchors.directory import CheckpointDirectory
from muniment.anchors.origins import tenants_of
from muniment.checkpoint import Checkpoint, open_checkpoint
from muniment.errors import AnchorError, InvalidConfig, VerificationError
from muniment.keys import KeyKind, VerifyingKey, keys_of_log
from muniment.merkle import consistency_proof, consistency_ranges, roots_over, verify_consistency
from muniment.stores.trees import Published, Trees
from muniment.tiles import roots_from, tiles_of

_AT_ONCE: Final = 64
_PAGE: Final = 1000

FindingKind = Literal["rollback", "fork", "disappeared", "signature", "tree", "memory", "missing"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a tenant's log, in plain words, with the sizes of the trees it is about.

    `kind` is "rollback": the newest checkpoint is smaller than a remembered one; "fork": the tree
    does not hold a remembered one as its beginning; "disappeared": no checkpoint, where one is
    remembered; "signature": no key that we know signed; "tree": checkpoint and tree differ;
    "memory": what is remembered can't be read or is not signed; "missing": no checkpoint, and none
    remembered, of a tenant that was asked for.
    """

    tenant_id: str
    kind: FindingKind
    problem: str
    remembered_size: int | None = None
    live_size: int | None = None


class _Place(msgspec.Struct, frozen=True):
    """Where a remembered checkpoint lies."""

    directory: int
    origin: str
    tree_size: int


class _Proven(msgspec.Struct, frozen=True):
    """A live checkpoint with which all that lies in these places is consistent."""

    checkpoint: Checkpoint
    places: frozenset[_Place]


class Watcher:
    """Looks at a live log again and again, and remembers what it saw if nothing was wrong.

    `keys` are the log's public keys, or one tenant's. New checkpoints are kept in `memory`; those
    in `anchors` are looked at too, and never written. What was proven once is not proven again by
    the same `Watcher`. Raises `InvalidConfig` without a key, or with a witness's.
    """

    def __init__(
        self,
        trees: Trees,
        memory: CheckpointDirectory,
        keys: Sequence[VerifyingKey],
        *,
        anchors: Iterable[CheckpointDirectory] = (),
    ) -> None:
        if not keys:
            raise InvalidConfig("keys: at least one public key of the log is needed")
        for key in keys:
            if key.kind is not KeyKind.LOG:
                raise InvalidConfig(f"keys: {key.name} is a witness's key; give the log's")
        self._trees = trees
        self._memory = memory
        self._keys = tuple(keys)
        self._directories = (memory, *anchors)
        self._proven: dict[str, _Proven] = {}
        self.first_seen = 0
        """Of how many tenants nothing was remembered when they were last looked at."""

    async def look(self, tenant_ids: Iterable[str] | None = None) -> list[Finding]:
        """What is wrong with the logs of these tenants, or of all that live or are remembered.

        Raises `StoreError` if the store can't be read, `OSError` if the memory can't.
        """
        findings: list[Finding] = []
        self.first_seen = 0
        if tenant_ids is None:
            async for tenant_id in self._everybody():
                findings += await self._look_at(tenant_id, is_named=False)
        else:
            for tenant_id in dict.fromkeys(tenant_ids):
                findings += await self._look_at(tenant_id, is_named=True)
        return findings

    @property
    def looked_at(self) -> int:
        """How many tenants' logs were found to be as they should be when last looked at."""
        return len(self._proven)

    async def _everybody(self) -> AsyncIterator[str]:
        # What is remembered first, then what lives: a tenant that comes in between is new.
        remembered = await asyncio.to_thread(self._remembered_tenants)
        remembered |= set(self._proven)
        after = None
        while page := await self._trees.trees(after, _PAGE):
            for tree in page:
                remembered.discard(tree.tenant_id)
                yield tree.tenant_id
            after = page[-1].tenant_id
        for tenant_id in sorted(remembered):
            yield tenant_id

    def _remembered_tenants(self) -> set[str]:
        origins = {origin for each in self._directories for origin in each.origins()}
        return {tenant_id for origin in origins for tenant_id in tenants_of(origin, self._keys)}

    async def _look_at(self, tenant_id: str, *, is_named: bool) -> list[Finding]:
        known = keys_of_log(self._keys, tenant_id)
        # Remembered before live: what is published meanwhile only makes the live one larger.
        proven = self._proven.pop(tenant_id, None)
        places, unlisted = await asyncio.to_thread(
            self._places, tenant_id, {key.name for key in known}
        )
        new = places - proven.places if proven else places
        remembered, unread = await asyncio.to_thread(self._read, tenant_id, new, known)
        findings = unlisted + unread
        if proven:
            remembered.append(proven.checkpoint)
        live = await self._trees.checkpoint(tenant_id)
        if live is None:
            return findings + _without_checkpoint(tenant_id, remembered, is_named=is_named)
        try:
            checkpoint = open_checkpoint(live.note, known)
        except VerificationError as error:
            problem = f"its newest checkpoint, of {live.tree_size} leaves, does not hold: {error}"
            return [*findings, _finding(tenant_id, "signature", problem, None, live.tree_size)]
        findings += _rolled_back(tenant_id, remembered, checkpoint)
        damage = await self._damage(tenant_id, live, checkpoint)
        # A proof from a tree that is not the checkpoint's would say nothing of the log.
        findings += damage or await self._forked(tenant_id, remembered, checkpoint)
        if not findings:
            findings += await self._remember(tenant_id, live, checkpoint, places)
            self.first_seen += not remembered
        elif proven:
            self._proven[tenant_id] = proven
        return findings

    def _places(
        self, tenant_id: str, origins: Iterable[str]
    ) -> tuple[frozenset[_Place], list[Finding]]:
        """Where checkpoints are remembered, and which directories can't be looked into."""
        places, findings = set[_Place](), list[Finding]()
        for n, directory in enumerate(self._directories):
            for origin in origins:
                try:
                    places |= {_Place(n, origin, size) for size in directory.sizes(origin)}
                except OSError as error:
                    # One tenant's place must not hide what is wrong with the others.
                    problem = f"what is remembered of it can't be read: {error}"
                    findings.append(_finding(tenant_id, "memory", problem, None, None))
        return frozenset(places), findings

    def _read(
        self, tenant_id: str, places: Iterable[_Place], known: Sequence[VerifyingKey]
    ) -> tuple[list[Checkpoint], list[Finding]]:
        """The remembered checkpoints that a known key signed, and what is wrong with the others."""
        found: dict[Checkpoint, None] = {}
        findings = []
        for place in sorted(places, key=lambda place: place.tree_size):
            try:
                note = self._directories[place.directory].read(place.origin, place.tree_size)
                found[open_checkpoint(note, known, origin=place.origin)] = None
            except OSError as error:
                problem = (
                    f"the remembered checkpoint of {place.tree_size} leaves can't be read: {error}"
                )
                findings.append(_finding(tenant_id, "memory", problem, place.tree_size, None))
            except VerificationError as error:
                problem = (
                    f"the remembered checkpoint of {place.tree_size} leaves does not hold: {error} "
                    "(a key that was in use before must be given too)"
                )
                findings.append(_finding(tenant_id, "memory", problem, place.tree_size, None))
        return list(found), findings

    async def _damage(
        self, tenant_id: str, live: Published, checkpoint: Checkpoint
    ) -> list[Finding]:
        """Whether the live checkpoint differs from its columns, or from its tree."""
        size = checkpoint.tree_size
        if (live.tree_size, live.root_hash) != (size, checkpoint.root_hash):
            problem = (
                f"the columns of the checkpoint of {size} leaves ({live.tree_size} by its column) "
                "differ from its note; run `muniment fsck`"
            )
            return [_finding(tenant_id, "tree", problem, None, size)]
        ranges = [(0, size)]
        tiles = await self._trees.tiles(tenant_id, tiles_of(ranges))
        try:
            (root,) = roots_over(ranges, roots_from(tiles))
            problem = "" if root == checkpoint.root_hash else "its root is another"
        except VerificationError as error:
            problem = str(error)
        if not problem:
            return []
        problem = (
            f"the stored tree is not that of the signed checkpoint of {size} leaves: {problem}; "
            "run `muniment fsck`"
        )
        return [_finding(tenant_id, "tree", problem, None, size)]

    async def _forked(
        self, tenant_id: str, remembered: Iterable[Checkpoint], live: Checkpoint
    ) -> list[Finding]:
        """Whether the live tree lacks a remembered one as its beginning; only the smallest."""
        older = [each for each in remembered if each.tree_size <= live.tree_size]
        forks = []
        for start in range(0, len(older), _AT_ONCE):
            part = older[start : start + _AT_ONCE]
            ranges = [consistency_ranges(each.tree_size, live.tree_size) for each in part]
            tiles = await self._trees.tiles(tenant_id, tiles_of(r for each in ranges for r in each))
            forks += [each for each in part if not _is_consistent(each, live, tiles)]
        if not forks:
            return []
        first = min(forks, key=lambda each: each.tree_size)
        problem = (
            f"the tree of {live.tree_size} leaves does not hold the remembered one of "
            f"{first.tree_size}: what was in it was edited, removed or reordered"
        )
        if first.tree_size == live.tree_size:
            problem = f"two checkpoints of {live.tree_size} leaves are signed, with different roots"
        if len(forks) > 1:
            problem += f" (and so with {len(forks) - 1} more that are remembered)"
        return [_finding(tenant_id, "fork", problem, first.tree_size, live.tree_size)]

    async def _remember(
        self, tenant_id: str, live: Published, checkpoint: Checkpoint, places: frozenset[_Place]
    ) -> list[Finding]:
        try:
            await asyncio.to_thread(self._memory.keep, live.note)
        except AnchorError as error:
            # Another watcher of the same memory was faster, and saw another tree.
            size = checkpoint.tree_size
            return [_finding(tenant_id, "fork", str(error), size, size)]
        place = _Place(0, checkpoint.origin, checkpoint.tree_size)
        self._proven[tenant_id] = _Proven(checkpoint, places | {place})
        return []


async def watch_once(
    trees: Trees,
    memory: CheckpointDirectory,
    keys: Sequence[VerifyingKey],
    tenant_ids: Iterable[str] | None = None,
    *,
    anchors: Iterable[CheckpointDirectory] = (),
) -> list[Finding]:
    """What is wrong with the live logs of these tenants, or of all, by what is remembered of them.

    Where nothing is, the newest checkpoint is remembered. Raises as `Watcher` and its `look` do.
    """
    return await Watcher(trees, memory, keys, anchors=anchors).look(tenant_ids)


def _is_consistent(
    older: Checkpoint, newer: Checkpoint, tiles: dict[tuple[int, int], bytes]
) -> bool:
    with suppress(VerificationError):
        proof = consistency_proof(older.tree_size, newer.tree_size, roots_from(tiles))
        verify_consistency(
            older.tree_size, newer.tree_size, proof, older.root_hash, newer.root_hash
        )
        return True
    return False


def _without_checkpoint(
    tenant_id: str, remembered: Sequence[Checkpoint], *, is_named: bool
) -> list[Finding]:
    if remembered:
        size = max(each.tree_size for each in remembered)
        problem = f"it has no checkpoint; one of tree size {size} is remembered"
        return [_finding(tenant_id, "disappeared", problem, size, 0)]
    if is_named:
        problem = "it has no checkpoint, and none is remembered; is that its id?"
        return [_finding(tenant_id, "missing", problem, None, None)]
    return []


def _rolled_back(
    tenant_id: str, remembered: Sequence[Checkpoint], live: Checkpoint
) -> list[Finding]:
    size = max((each.tree_size for each in remembered), default=0)
    if size <= live.tree_size:
        return []
    problem = (
        f"its newest checkpoint has a tree size of {live.tree_size}; one of {size} is remembered"
    )
    return [_finding(tenant_id, "rollback", problem, size, live.tree_size)]


def _finding(
    tenant_id: str,
    kind: FindingKind,
    problem: str,
    remembered_size: int | None,
    live_size: int | None,
) -> Finding:
    return Finding(
        tenant_id=tenant_id,
        kind=kind,
        problem=problem,
        remembered_size=remembered_size,
        live_size=live_size,
    )
