"""Merkle tree hashing and proofs of RFC 6962, section 2.1 (RFC 9162 keeps them): bytes and ints.

A tree over n leaves is cut into the largest perfect subtrees that fit, from the left: each is named
(height, index) and holds the leaves from `index << height` on. Hashes are SHA-256, 32 bytes each.
A proof is the roots of a few such subtrees; whoever keeps them in tiles reads only those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from muniment.errors import VerificationError

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root hash of a tree without leaves."""
HASH_BYTES: Final = 32
_sha256 = hashlib.sha256

Node = tuple[int, int]
"""(height, index) of a perfect subtree: it holds leaves `index << height` to the next one's."""
RootsOf = Callable[[Sequence[Node]], Sequence[bytes]]
"""Gives the roots of perfect subtrees, in their order."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256 over 0x00 and the leaf's data (RFC 6962, section 2.1)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 over 0x01 and the roots of two subtrees (RFC 6962, section 2.1)."""
    return _sha256(b"\x01" + left + right).digest()


def perfect_subtrees(start: int, end: int) -> Iterator[Node]:
    """The largest perfect subtrees that hold the leaves from `start` up to `end`, left to right."""
    while start < end:
        height = (end - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        yield height, start >> height
        start += 1 << height


class Frontier:
    """The right edge of a growing tree: the roots of its largest perfect subtrees, left to right.

    Takes leaves, or whole perfect subtrees, at the right; knows the root at every size.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            msg = f"a tree of {size} leaves has {size.bit_count()} edge hashes"
            raise VerificationError(f"{msg}, not {len(self.hashes)}")

    def append(self, subtree_root: bytes, height: int = 0) -> None:
        """Add a leaf hash, or the root of a perfect subtree of 2^height leaves.

        Raises `VerificationError` where such a subtree can't stand.
        """
        size, hashes = self.size, self.hashes
        if size & ((1 << height) - 1):
            raise VerificationError(f"no subtree of {1 << height} leaves begins at leaf {size}")
        self.size = size + (1 << height)
        size >>= height
        while size & 1:
            subtree_root = _sha256(b"\x01" + hashes.pop() + subtree_root).digest()
            size >>= 1
        hashes.append(subtree_root)

    def complete(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; gives the roots of the perfect subtrees that it ends, lowest first."""
        completed = []
        size = self.size
        root = leaf
        while size & 1:
            root = node_hash(self.hashes.pop(), root)
            completed.append(root)
            size >>= 1
        self.hashes.append(root)
        self.size += 1
        return completed

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaves, a level of the tree at a time: that is faster than one by one."""
        edge, ends = self.hashes, []
        level, size = list(leaf_hashes), self.size
        self.size += len(level)
        while level:
            if size & 1:
                level.insert(0, edge.pop())
            if len(level) & 1:
                ends.append(level.pop())
            size >>= 1
            pair = iter(level)
            level = [
                _sha256(b"\x01" + left + right).digest()
                for left, right in zip(pair, pair, strict=True)
            ]
        edge.extend(reversed(ends))

    def root(self) -> bytes:
        """The root hash of the tree as it is now."""
        return join_roots(self.hashes)


def join_roots(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring perfect subtrees, the larger ones at the left."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def root_hash(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root hash of a tree over these leaf hashes."""
    frontier = Frontier()
    frontier.extend(leaf_hashes)
    return frontier.root()


# --- proofs are made


def inclusion_ranges(leaf_index: int, tree_size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose roots prove a leaf's inclusion, in the order of the proof.

    RFC 6962, section 2.1.1: PATH(m, D[n]). Raises `VerificationError` for a leaf outside the tree.
    """
    if not 0 <= leaf_index < tree_size:
        raise VerificationError(f"leaf {leaf_index} is not in a tree of {tree_size} leaves")
    ranges = []
    start, end = 0, tree_size
    while end - start > 1:
        middle = start + _left_part(end - start)
        if leaf_index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    ranges.reverse()
    return ranges


def consistency_ranges(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """The ranges of leaves whose roots prove that a tree grew out of an older one, in order.

    RFC 6962, section 2.1.2: PROOF(m, D[n]). Empty for an empty old tree, and for equal sizes.
    """
    if not 0 <= old_size <= new_size:
        raise VerificationError(
            f"a tree of {new_size} leaves did not grow out of one of {old_size}"
        )
    if old_size in (0, new_size):
        return []
    ranges = []
    start, end, is_whole = 0, new_size, True
    while old_size != end:
        middle = start + _left_part(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, is_whole = middle, False
    if not is_whole:
        ranges.append((start, end))
    ranges.reverse()
    return ranges


def _left_part(count: int) -> int:
    """The largest power of two below `count`: where RFC 6962 parts a tree."""
    return 1 << ((count - 1).bit_length() - 1)


def roots_over(ranges: Iterable[tuple[int, int]], roots_of: RootsOf) -> list[bytes]:
    """The root over each range of leaves, from those of its perfect subtrees, all asked at once."""
    parts = [list(perfect_subtrees(start, end)) for start, end in ranges]
    roots = iter(roots_of([node for nodes in parts for node in nodes]))
    return [join_roots([next(roots) for _ in nodes]) for nodes in parts]


def inclusion_proof(leaf_index: int, tree_size: int, roots_of: RootsOf) -> list[bytes]:
    """The hashes that lead from a leaf to the root, lowest first (RFC 6962, section 2.1.1)."""
    return roots_over(inclusion_ranges(leaf_index, tree_size), roots_of)


def consistency_proof(old_size: int, new_size: int, roots_of: RootsOf) -> list[bytes]:
    """The hashes that lead from an older root to a newer one (RFC 6962, section 2.1.2)."""
    return roots_over(consistency_ranges(old_size, new_size), roots_of)


def roots_of_leaves(leaf_hashes: Sequence[bytes]) -> RootsOf:
    """The roots of perfect subtrees, from all leaf hashes in memory."""

    def roots_of(nodes: Sequence[Node]) -> list[bytes]:
        return [root_hash(leaf_hashes[i << h : (i + 1) << h]) for h, i in nodes]

    return roots_of


# --- proofs are verified


def root_from_inclusion(
    leaf_index: int, tree_size: int, leaf: bytes, proof: Sequence[bytes]
) -> bytes:
    """The root hash that a leaf hash and its inclusion proof lead to (RFC 9162, section 2.1.3.2).

    Raises `VerificationError` for a proof that has not the length or the shape it must have.
    """
    if not 0 <= leaf_index < tree_size:
        raise VerificationError(f"leaf {leaf_index} is not in a tree of {tree_size} leaves")
    _check_hashes([leaf, *proof])
    index, last, root = leaf_index, tree_size - 1, leaf
    for each in proof:
        if last == 0:
            raise VerificationError(f"the inclusion proof of leaf {leaf_index} is too long")
        if index & 1 or index == last:
            root = node_hash(each, root)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            root = node_hash(root, each)
        index >>= 1
        last >>= 1
    if last:
        raise VerificationError(f"the inclusion proof of leaf {leaf_index} is too short")
    return root


def verify_inclusion(
    leaf_index: int, tree_size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise `VerificationError` unless the proof leads from the leaf hash to the root hash."""
    if root_from_inclusion(leaf_index, tree_size, leaf, proof) != root:
        raise VerificationError(
            f"the inclusion proof of leaf {leaf_index} does not lead to the root of {tree_size}"
        )


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Raise `VerificationError` unless the newer tree holds the older one as its beginning.

    RFC 9162, section 2.1.4.2. An empty old tree is consistent with every other, without a proof.
    """
    if not 0 <= old_size <= new_size:
        raise VerificationError(
            f"a tree of {new_size} leaves did not grow out of one of {old_size}"
        )
    _check_hashes([old_root, new_root, *proof])
    if len(proof) != len(consistency_ranges(old_size, new_size)):
        raise VerificationError(
            f"the consistency proof has {len(proof)} hashes, not as many as due"
        )
    if old_size == 0:
        leads = old_root == EMPTY_ROOT and (new_size > 0 or new_root == EMPTY_ROOT)
    elif old_size == new_size:
        leads = old_root == new_root
    else:
        leads = _roots_from_consistency(old_size, new_size, proof, old_root) == (old_root, new_root)
    if not leads:
        raise VerificationError(
            f"the tree of {new_size} leaves is not consistent with the one of {old_size}: what was "
            "in the older one was edited, removed or reordered"
        )


def _roots_from_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes]:
    """The roots of both trees that a proof leads to; its length is right already."""
    path = list(proof)
    if old_size.bit_count() == 1:
        path.insert(0, old_root)
    index, last = old_size - 1, new_size - 1
    while index & 1:
        index >>= 1
        last >>= 1
    older = newer = path[0]
    for each in path[1:]:
        if index & 1 or index == last:
            older, newer = node_hash(each, older), node_hash(each, newer)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            newer = node_hash(newer, each)
        index >>= 1
        last >>= 1
    return older, newer


def _check_hashes(hashes: Iterable[bytes]) -> None:
    for each in hashes:
        if len(each) != HASH_BYTES:
            raise VerificationError(f"a hash has {len(each)} bytes, not {HASH_BYTES}")
