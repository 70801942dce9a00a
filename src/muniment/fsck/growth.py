"""A tenant's tree, built anew from its leaf hashes and compared with all that is stored of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final
from urllib.parse import quote

from muniment.checkpoint import checkpoint_in, open_checkpoint
from muniment.errors import VerificationError
from muniment.fsck.findings import Finding, FindingKind, Summary
from muniment.keys import VerifyingKey, keys_of_log
from muniment.merkle import HASH_BYTES, Frontier
from muniment.stores.trees import ID_BYTES, Published, Tree, Trees
from muniment.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, append_leaves, hashes_in, tile_hashes

_TILES_AT_ONCE: Final = 64
_CHECKPOINTS_AT_ONCE: Final = 500


class TreeChecker:
    """Compares trees; `tell` gets the differences. With `keys`, signatures are verified too."""

    def __init__(
        self,
        trees: Trees,
        keys: Sequence[VerifyingKey],
        summary: Summary,
        tell: Callable[[Finding], None],
        advance: Callable[[int], None],
    ) -> None:
        self._trees = trees
        self._keys = tuple(keys)
        self._summary = summary
        self._tell = tell
        self._advance = advance

    async def check(self, tenant_id: str) -> None:
        """Compare one tenant's tree, as it is now."""
        tree = await self._trees.tree(tenant_id)
        if tree is None:
            self._find(FindingKind.TREE, tenant_id, "its tree is gone, though it has leaves")
            return
        checkpoints = _Checkpoints(self._trees, tree)
        frontier = Frontier()
        derived: dict[Tile, bytes] = {}
        roots = _Roots(self, tenant_id)
        for first in range(0, tree.tree_size, _TILES_AT_ONCE * TILE_WIDTH):
            hashes = await self._leaf_hashes(tree, first)
            if hashes is None:
                return  # what comes after has no root that could be told
            end = first + len(hashes)
            async for checkpoint in checkpoints.up_to(end):
                self._grow(frontier, derived, hashes[frontier.size - first :], checkpoint.tree_size)
                roots.compare(checkpoint, frontier.root())
                self._check_note(tenant_id, checkpoint)
            self._grow(frontier, derived, hashes[frontier.size - first :], end)
            await self._compare_tiles(tree, derived, end)
            self._summary.leaves += len(hashes)
            self._advance(len(hashes))
        roots.tell()
        if b"".join(frontier.hashes) != tree.edge:
            self._find(
                FindingKind.TREE,
                tenant_id,
                f"the edge that its tree of {tree.tree_size} leaves grows from is not that of its "
                "leaves",
                tree_size=tree.tree_size,
            )
        await self._compare_published(tree, checkpoints.newest)
        await self._compare_bundles(tree)
        await self._compare_counts(tree)

    def _find(
        self, kind: FindingKind, tenant_id: str, message: str, *, tree_size: int | None = None
    ) -> None:
        self._tell(Finding(kind=kind, tenant_id=tenant_id, message=message, tree_size=tree_size))

    # --- tiles

    async def _leaf_hashes(self, tree: Tree, first: int) -> list[bytes] | None:
        """Some leaf hashes from leaf `first` on; None, with a finding, if they are not there."""
        indexes = range(
            first // TILE_WIDTH,
            min(first // TILE_WIDTH + _TILES_AT_ONCE, -(-tree.tree_size // TILE_WIDTH)),
        )
        tiles = await self._trees.tiles(tree.tenant_id, [(0, index) for index in indexes])
        found: list[bytes] = []
        for index in indexes:
            hashes = hashes_in(tiles.get((0, index), b""))
            due = tile_hashes(0, index, tree.tree_size)
            if len(hashes) < due:
                start = index * TILE_WIDTH
                self._find(
                    FindingKind.TREE,
                    tree.tenant_id,
                    f"tile {index} of level 0, with the hashes of leaves {start} to "
                    f"{start + due - 1}, has {len(hashes)} of {due}; roots can't be told any more",
                )
                return None
            found += hashes[:due]
        return found

    def _grow(
        self, frontier: Frontier, derived: dict[Tile, bytes], hashes: list[bytes], size: int
    ) -> None:
        """Add leaves until there are `size`."""
        gained = append_leaves(frontier, hashes[: size - frontier.size])
        for (level, index), more in gained.items():
            if level:
                derived[level, index] = derived.get((level, index), b"") + more

    async def _compare_tiles(self, tree: Tree, derived: dict[Tile, bytes], size: int) -> None:
        """Compare the tiles above level 0 that are full, or all of them at the end of the tree."""
        is_end = size == tree.tree_size
        done = [
            tile
            for tile, hashes in derived.items()
            if is_end or len(hashes_in(hashes)) == TILE_WIDTH
        ]
        if not done:
            return
        stored = await self._trees.tiles(tree.tenant_id, done)
        for level, index in done:
            expected = derived.pop((level, index))
            # A log that is recorded in may have grown since.
            if stored.get((level, index), b"")[: len(expected)] == expected:
                continue
            found = hashes_in(stored.get((level, index), b""))
            good = [a == b for a, b in zip(hashes_in(expected), found, strict=False)]
            first = good.index(False) if False in good else len(good)
            width = TILE_WIDTH**level
            start = (index * TILE_WIDTH + first) * width
            self._find(
                FindingKind.TREE,
                tree.tenant_id,
                f"tile {index} of level {level} is not made of the leaves below it: what it says "
                f"of leaves {start} to {start + width - 1} is another hash, or none",
            )

    # --- checkpoints

    def _check_note(self, tenant_id: str, published: Published) -> None:
        size = published.tree_size
        self._summary.checkpoints += 1
        problem = ""
        try:
            checkpoint = checkpoint_in(published.note)
            if (checkpoint.tree_size, checkpoint.root_hash) != (size, published.root_hash):
                problem = (
                    f"its note is of {checkpoint.tree_size} leaves"
                    if checkpoint.tree_size != size
                    else "its note says another root hash than its column"
                )
            elif not checkpoint.origin.endswith(f"/{quote(tenant_id, safe='')}"):
                problem = f"it is of another log, {checkpoint.origin}"
            elif self._keys:
                known = keys_of_log(self._keys, tenant_id)
                origins = {key.name for key in known}
                if open_checkpoint(published.note, known).origin not in origins:
                    problem = f"it is of another log, {checkpoint.origin}"
                else:
                    self._summary.signatures += 1
        except VerificationError as error:
            problem = str(error)
        if problem:
            self._find(
                FindingKind.CHECKPOINT,
                tenant_id,
                f"the checkpoint of {size} leaves does not hold: {problem}",
                tree_size=size,
            )

    async def _compare_published(self, tree: Tree, newest: int) -> None:
        if newest > tree.published_size:
            now = await self._trees.tree(tree.tenant_id)
            if now is not None and newest <= now.published_size:
                return  # it was published since the tree was read
        if newest != tree.published_size:
            self._find(
                FindingKind.CHECKPOINT,
                tree.tenant_id,
                f"its newest checkpoint should have {tree.published_size} leaves, and has {newest}"
                if newest
                else f"its checkpoint of {tree.published_size} leaves is gone, as are all others",
                tree_size=tree.published_size,
            )

    # --- how much there is

    async def _compare_bundles(self, tree: Tree) -> None:
        last = (tree.tree_size - 1) // TILE_WIDTH
        for first in range(0, last + 1, _TILES_AT_ONCE):
            found = await self._trees.bundles(tree.tenant_id, first, _TILES_AT_ONCE)
            counts = {each.index: len(each.event_ids) // ID_BYTES for each in found}
            for index in range(first, min(first + _TILES_AT_ONCE, last + 1)):
                due = tile_hashes(0, index, tree.tree_size)
                if counts.get(index, 0) < due:
                    self._find(
                        FindingKind.TREE,
                        tree.tenant_id,
                        f"bundle {index}, with the event_ids of leaves from {index * TILE_WIDTH} "
                        f"on, has {counts.get(index, 0)} of {due}",
                    )

    async def _compare_counts(self, tree: Tree) -> None:
        """Compare how many rows there are; while the log grows, only the bounds are known."""
        found = await self._trees.row_counts(tree.tenant_id)
        now = await self._trees.tree(tree.tenant_id) or tree
        for name, least, most in (
            ("tiles", tiles_due(tree.tree_size), tiles_due(now.tree_size)),
            ("bundles", bundles_due(tree.tree_size), bundles_due(now.tree_size)),
        ):
            count = getattr(found, name)
            if not least <= count <= most:
                self._find(
                    FindingKind.TREE,
                    tree.tenant_id,
                    f"a tree of {now.tree_size} leaves has {most} {name}, and {count} are stored",
                    tree_size=now.tree_size,
                )
        if now == tree:
            await self._compare_ends(tree)

    async def _compare_ends(self, tree: Tree) -> None:
        """Look for what stands behind the end of a tree that has not grown meanwhile."""
        size = tree.tree_size
        tiles = [
            (level, (size >> TILE_HEIGHT * level) >> TILE_HEIGHT)
            for level in range(8)
            if size >> TILE_HEIGHT * level
        ]
        stored = await self._trees.tiles(tree.tenant_id, tiles)
        too_long = [
            f"tile {index} of level {level}"
            for (level, index), hashes in stored.items()
            if len(hashes) > tile_hashes(level, index, size) * HASH_BYTES
        ]
        too_long += [
            f"bundle {bundle.index}"
            for bundle in await self._trees.bundles(tree.tenant_id, size // TILE_WIDTH, 1)
            if len(bundle.event_ids) > size % TILE_WIDTH * ID_BYTES
        ]
        checkpoints = await self._trees.checkpoint(tree.tenant_id)
        if checkpoints and checkpoints.tree_size > size:
            too_long.append(f"a checkpoint of {checkpoints.tree_size} leaves")
        if too_long and await self._trees.tree(tree.tenant_id) == tree:
            self._find(
                FindingKind.TREE,
                tree.tenant_id,
                f"behind the end of its tree of {size} leaves there is more: {', '.join(too_long)}",
                tree_size=size,
            )


class _Checkpoints:
    """A tenant's checkpoints that its tree says are published, the smallest first."""

    def __init__(self, trees: Trees, tree: Tree) -> None:
        self._trees = trees
        self._tree = tree
        self._page: Iterator[Published] = iter(())
        self._waiting: Published | None = None
        self._ended = False
        self.newest = 0

    async def up_to(self, size: int) -> AsyncIterator[Published]:
        """Those of up to `size` leaves that did not come before."""
        while (checkpoint := await self._next()) is not None:
            if checkpoint.tree_size > min(size, self._tree.tree_size):
                self._waiting = checkpoint
                return
            self.newest = checkpoint.tree_size
            yield checkpoint

    async def _next(self) -> Published | None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            return waiting
        found = next(self._page, None)
        if found is None and not self._ended:
            page = await self._trees.checkpoints(
                self._tree.tenant_id, self.newest, _CHECKPOINTS_AT_ONCE
            )
            self._ended = len(page) < _CHECKPOINTS_AT_ONCE
            self._page = iter(page)
            found = next(self._page, None)
        return found


class _Roots:
    """Compares the roots of checkpoints with those of the tree; one finding for all."""

    def __init__(self, checker: TreeChecker, tenant_id: str) -> None:
        self._checker = checker
        self._tenant_id = tenant_id
        self._good = 0
        self._bad: list[int] = []
        self._good_again = False

    def compare(self, published: Published, root: bytes) -> None:
        """Take the next checkpoint, and the root that the tree had at its size."""
        if published.root_hash == root:
            if not self._bad:
                self._good = published.tree_size
            self._good_again = bool(self._bad)
        else:
            self._bad.append(published.tree_size)
            self._good_again = False

    def tell(self) -> None:
        """Say which is the first that differs, and so between which leaves the cause is."""
        if not self._bad:
            return
        first, more = self._bad[0], len(self._bad) - 1
        last = first - 1
        cause = f"leaf {last}" if last == self._good else f"one of leaves {self._good} to {last}"
        if self._good_again:
            cause = "the checkpoint"  # for the leaves lead to a larger one
        message = (
            f"the checkpoint of {first} leaves has another root than its tree: {cause} was altered"
        )
        if more:
            message += f" ({more} more differ)"
        self._checker._find(  # noqa: SLF001
            FindingKind.CHECKPOINT, self._tenant_id, message, tree_size=first
        )


def tiles_due(tree_size: int) -> int:
    """How many tiles a tree of so many leaves has."""
    count = 0
    while tree_size:
        count += bundles_due(tree_size)
        tree_size >>= TILE_HEIGHT
    return count


def bundles_due(tree_size: int) -> int:
    """How many bundles a tree of so many leaves has."""
    return -(-tree_size // TILE_WIDTH)
