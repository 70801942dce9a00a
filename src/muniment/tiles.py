"""A tree's hashes in tiles of 256, as C2SP tlog-tiles lays them out: a proof reads a few of them.

Tile (level, index) holds the roots of the perfect subtrees of height 8·level, from number 256·index
on, 32 bytes each: level 0 are the leaf hashes. Tiles only ever grow at their ends, and a full one
never changes. Heights between are computed from the tile below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from muniment.errors import VerificationError
from muniment.merkle import HASH_BYTES, Frontier, Node, RootsOf, perfect_subtrees, root_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT

Tile = tuple[int, int]
"""(level, index)."""


def append_leaves(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> dict[Tile, bytes]:
    """Add leaves to a tree; returns the bytes that each of its tiles gains at its end.

    `frontier` moves on. A tile of a higher level gains a hash whenever one below it becomes full.
    """
    gained: dict[Tile, bytes] = {}
    start, append = 0, frontier.append
    while start < len(leaf_hashes):
        index = frontier.size >> TILE_HEIGHT
        room = ((index + 1) << TILE_HEIGHT) - frontier.size
        part = leaf_hashes[start : start + room]
        start += room
        gained[0, index] = b"".join(part)
        fills = len(part) == room
        for each in part[:-1] if fills else part:
            append(each)
        if fills:
            completed = frontier.complete(part[-1])
            for level, root in enumerate(completed[TILE_HEIGHT - 1 :: TILE_HEIGHT], 1):
                tile = level, index >> TILE_HEIGHT * level
                gained[tile] = gained.get(tile, b"") + root
    return gained


def tiles_under(nodes: Iterable[Node]) -> set[Tile]:
    """The tiles that hold what is needed for the roots of these perfect subtrees."""
    return {_place(node)[:2] for node in nodes}


def tiles_of(ranges: Iterable[tuple[int, int]]) -> set[Tile]:
    """The tiles that hold what is needed for the roots over these ranges of leaves."""
    return tiles_under(node for start, end in ranges for node in perfect_subtrees(start, end))


def roots_from(tiles: Mapping[Tile, bytes]) -> RootsOf:
    """The roots of perfect subtrees, from the tiles that `tiles_of` names.

    They raise `VerificationError` where a tile lacks hashes that it must have.
    """

    def roots_of(nodes: Sequence[Node]) -> list[bytes]:
        return [_subtree_root(node, tiles) for node in nodes]

    return roots_of


def hashes_in(tile: bytes) -> list[bytes]:
    """The hashes that a tile holds, in their order."""
    return [tile[n : n + HASH_BYTES] for n in range(0, len(tile), HASH_BYTES)]


def tile_hashes(level: int, index: int, tree_size: int) -> int:
    """How many hashes tile (level, index) holds in a tree of that size (tlog-tiles: its width)."""
    return max(0, min(TILE_WIDTH, (tree_size >> TILE_HEIGHT * level) - (index << TILE_HEIGHT)))


def _place(node: Node) -> tuple[int, int, int, int]:
    """(level, index, first, count): which hashes of which tile are the leaves of a subtree."""
    height, number = node
    level, above = divmod(height, TILE_HEIGHT)
    first = number << above
    return level, first >> TILE_HEIGHT, first & (TILE_WIDTH - 1), 1 << above


def _subtree_root(node: Node, tiles: Mapping[Tile, bytes]) -> bytes:
    level, index, first, count = _place(node)
    part = tiles.get((level, index), b"")[first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(part) != count * HASH_BYTES:
        raise VerificationError(
            f"tile {index} of level {level} lacks hashes {first} to {first + count - 1}"
        )
    return root_hash(hashes_in(part))
