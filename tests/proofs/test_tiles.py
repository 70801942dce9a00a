from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.errors import VerificationError
from muniment.merkle import (
    Frontier,
    consistency_proof,
    consistency_ranges,
    inclusion_proof,
    inclusion_ranges,
    root_hash,
    roots_of_leaves,
    verify_consistency,
    verify_inclusion,
)
from muniment.tiles import (
    TILE_WIDTH,
    Tile,
    append_leaves,
    hashes_in,
    roots_from,
    tile_hashes,
    tiles_of,
)

_LARGE = TILE_WIDTH * TILE_WIDTH + 2_000
"""More leaves than two levels of tiles hold."""


def _leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % n).digest() for n in range(count)]


def _tiles(steps: list[int]) -> tuple[Frontier, dict[Tile, bytes]]:
    """The tiles of a tree that grew in steps of so many leaves."""
    frontier, tiles = Frontier(), dict[Tile, bytes]()
    leaves = _leaves(sum(steps))
    for step in steps:
        gained = append_leaves(frontier, leaves[frontier.size : frontier.size + step])
        for tile, hashes in gained.items():
            tiles[tile] = tiles.get(tile, b"") + hashes
    return frontier, tiles


@pytest.fixture(scope="module")
def large() -> tuple[list[bytes], dict[Tile, bytes]]:
    """The leaves and tiles of a tree of three levels."""
    return _leaves(_LARGE), _tiles([10_000] * (_LARGE // 10_000) + [_LARGE % 10_000])[1]


@given(steps=st.lists(st.integers(0, 700), max_size=6))
@settings(max_examples=50)
def test_tiles_do_not_depend_on_the_steps_of_growth(steps: list[int]) -> None:
    """A tree that grew in many steps has the tiles of one that grew at once."""
    assert _tiles(steps)[1] == _tiles([sum(steps)])[1]


@given(size=st.integers(0, 3_000))
@settings(max_examples=50)
def test_tiles_are_as_wide_as_the_tree_demands(size: int) -> None:
    """`tile_hashes` says how many hashes each tile of a tree has: those, and no other tiles."""
    _, tiles = _tiles([size])
    widths = {
        (level, index): tile_hashes(level, index, size)
        for level in range(3)
        for index in range(14)
        if tile_hashes(level, index, size)
    }
    assert {tile: len(hashes_in(hashes)) for tile, hashes in tiles.items()} == widths


def test_a_tile_of_a_higher_level_holds_the_roots_of_those_below(
    large: tuple[list[bytes], dict[Tile, bytes]],
) -> None:
    """C2SP tlog-tiles: each hash is the root over a full tile of the level below."""
    leaves, tiles = large
    for index, root in enumerate(hashes_in(tiles[1, 0])):
        assert root == root_hash(leaves[index * TILE_WIDTH : (index + 1) * TILE_WIDTH])
    assert hashes_in(tiles[2, 0]) == [root_hash(hashes_in(tiles[1, 0]))]


@given(data=st.data())
@settings(max_examples=60)
def test_proofs_from_tiles_are_those_from_leaves(
    large: tuple[list[bytes], dict[Tile, bytes]], data: st.DataObject
) -> None:
    """An inclusion proof, made of the few tiles that `tiles_of` names, leads to the root."""
    leaves, tiles = large
    size = data.draw(st.integers(1, 1_000) | st.integers(1, _LARGE))
    index = data.draw(st.integers(0, size - 1))
    wanted = tiles_of(inclusion_ranges(index, size))
    assert len(wanted) <= 2 * 3
    proof = inclusion_proof(index, size, roots_from({tile: tiles[tile] for tile in wanted}))
    frontier = Frontier()
    frontier.extend(leaves[:size])
    verify_inclusion(index, size, leaves[index], proof, frontier.root())


@given(data=st.data())
@settings(max_examples=30)
def test_consistency_proofs_from_tiles_hold(
    large: tuple[list[bytes], dict[Tile, bytes]], data: st.DataObject
) -> None:
    """A consistency proof is made of few tiles, and holds."""
    leaves, tiles = large
    new = data.draw(st.integers(1, _LARGE))
    old = data.draw(st.integers(1, new))
    wanted = tiles_of(consistency_ranges(old, new))
    proof = consistency_proof(old, new, roots_from({tile: tiles[tile] for tile in wanted}))
    verify_consistency(old, new, proof, root_hash(leaves[:old]), root_hash(leaves[:new]))


def test_roots_from_tiles_equal_those_from_leaves() -> None:
    """Of subtrees of every height, within a tile and across tiles."""
    leaves = _leaves(2_048)
    _, tiles = _tiles([2_048])
    nodes = [(height, index) for height in range(12) for index in (0, (2_048 >> height) - 1)]
    assert roots_from(tiles)(nodes) == roots_of_leaves(leaves)(nodes)


def test_a_tile_that_lacks_hashes_is_refused() -> None:
    """No root is made up of what is there."""
    _, tiles = _tiles([300])
    with pytest.raises(VerificationError, match="tile 0 of level 0 lacks hashes 128 to 255"):
        roots_from({(0, 0): tiles[0, 0][:-32]})([(7, 1)])
