from __future__ import annotations

import hashlib

import pymerkle
import pytest
import scitt_cose
from hypothesis import given
from hypothesis import strategies as st

from muniment.errors import VerificationError
from muniment.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    consistency_ranges,
    inclusion_proof,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    perfect_subtrees,
    root_hash,
    roots_of_leaves,
    verify_consistency,
    verify_inclusion,
)

_DATA = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The leaves that Certificate Transparency's own known answers are about."""
_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
_SIZES = st.integers(1, 70)


def _leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % n) for n in range(count)]


def _entries(count: int) -> list[str]:
    return [(b"%d" % n).hex() for n in range(count)]


def _others_tree(count: int) -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for n in range(count):
        tree.append_entry(b"%d" % n)
    return tree


# --- known answers


def test_a_leaf_hash_is_sha256_over_a_zero_byte_and_the_data() -> None:
    """The leaf hash is RFC 6962's: that of the empty leaf is well known."""
    assert leaf_hash(b"abc") == hashlib.sha256(b"\x00abc").digest()
    assert leaf_hash(b"").hex() == _ROOTS[0]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_known_ones(size: int) -> None:
    """The roots over Certificate Transparency's eight leaves are those that it publishes."""
    assert root_hash(map(leaf_hash, _DATA[:size])).hex() == _ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962, section 2.1: the hash of an empty list is that of an empty string."""
    assert root_hash([]) == EMPTY_ROOT == hashlib.sha256().digest()


@pytest.mark.parametrize(
    ("leaf_index", "named"), [(0, "bhl"), (3, "cgl"), (4, "fjk"), (6, "ik")], ids=str
)
def test_audit_paths_are_those_of_the_rfc(leaf_index: int, named: str) -> None:
    """The example tree of seven leaves in RFC 6962, section 2.1.3, node by node."""
    nodes = _example()
    made = inclusion_proof(leaf_index, 7, roots_of_leaves(_leaves(7)))
    assert made == [nodes[name] for name in named]


@pytest.mark.parametrize(("old_size", "named"), [(3, "cdgl"), (4, "l"), (6, "ijk")], ids=str)
def test_consistency_proofs_are_those_of_the_rfc(old_size: int, named: str) -> None:
    """The example tree of seven leaves in RFC 6962, section 2.1.3, and its earlier states."""
    nodes = _example()
    made = consistency_proof(old_size, 7, roots_of_leaves(_leaves(7)))
    assert made == [nodes[name] for name in named]


def _example() -> dict[str, bytes]:
    """The nodes of RFC 6962's example by the letters that it gives them."""
    nodes = dict(zip("abcdefj", _leaves(7), strict=True))
    nodes |= {
        "g": node_hash(nodes["a"], nodes["b"]),
        "h": node_hash(nodes["c"], nodes["d"]),
        "i": node_hash(nodes["e"], nodes["f"]),
    }
    nodes["k"] = node_hash(nodes["g"], nodes["h"])
    nodes["l"] = node_hash(nodes["i"], nodes["j"])
    return nodes


# --- against other implementations


@given(size=_SIZES)
def test_roots_equal_those_of_others(size: int) -> None:
    """Of any size, the root is the one of scitt-cose and of pymerkle."""
    root = root_hash(_leaves(size))
    assert root.hex() == scitt_cose.merkle_root(_entries(size))
    assert root == _others_tree(size).get_root(size)


@given(size=_SIZES, data=st.data())
def test_inclusion_proofs_equal_those_of_others(size: int, data: st.DataObject) -> None:
    """A proof is hash for hash the one of scitt-cose, and of pymerkle behind its leaf."""
    index = data.draw(st.integers(0, size - 1))
    made = [each.hex() for each in inclusion_proof(index, size, roots_of_leaves(_leaves(size)))]
    assert made == scitt_cose.inclusion_proof(_entries(size), index)
    assert made == _others_tree(size).prove_inclusion(index + 1, size).serialize()["path"][1:]


@given(size=_SIZES, data=st.data())
def test_consistency_proofs_equal_those_of_others(size: int, data: st.DataObject) -> None:
    """A proof is hash for hash the one of scitt-cose, which takes it for true."""
    old = data.draw(st.integers(1, size))
    leaves = _leaves(size)
    made = [each.hex() for each in consistency_proof(old, size, roots_of_leaves(leaves))]
    assert made == scitt_cose.consistency_proof(_entries(size), old, size)
    roots = root_hash(leaves[:old]).hex(), root_hash(leaves).hex()
    assert scitt_cose.verify_consistency(*roots, old, size, made)


# --- what is verified, and what is not


@given(size=_SIZES, data=st.data())
def test_a_good_inclusion_proof_is_verified(size: int, data: st.DataObject) -> None:
    """What is proved of a leaf holds."""
    index = data.draw(st.integers(0, size - 1))
    leaves = _leaves(size)
    proof = inclusion_proof(index, size, roots_of_leaves(leaves))
    verify_inclusion(index, size, leaves[index], proof, root_hash(leaves))


@given(size=_SIZES, data=st.data())
def test_an_altered_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    """Another index, size, leaf, root or hash, or one hash more or less: none of them holds."""
    index = data.draw(st.integers(0, size - 1))
    leaves = _leaves(size)
    root = root_hash(leaves)
    proof = inclusion_proof(index, size, roots_of_leaves(leaves))
    other = leaf_hash(b"another")
    place = data.draw(st.integers(0, max(0, len(proof) - 1)))
    altered = [
        (index, size, other, proof, root),
        (index, size, leaves[index], proof, other),
        (index, size, leaves[index], [*proof, other], root),
        ((index + 1) % (size + 1), size, leaves[index], proof, root),
        (index, size * 2, leaves[index], proof, root),
        (size, size, leaves[index], proof, root),
        (-1, size, leaves[index], proof, root),
    ]
    if proof:
        altered.append((index, size, leaves[index], proof[:-1], root))
        changed = [*proof[:place], other, *proof[place + 1 :]]
        altered.append((index, size, leaves[index], changed, root))
        altered.append((index, size, leaves[index], [proof[0][:31], *proof[1:]], root))
    for case in altered:
        with pytest.raises(VerificationError):
            verify_inclusion(*case)


@given(size=_SIZES, data=st.data())
def test_a_good_consistency_proof_is_verified(size: int, data: st.DataObject) -> None:
    """A tree is consistent with each of its earlier states, the empty one included."""
    old = data.draw(st.integers(0, size))
    leaves = _leaves(size)
    proof = consistency_proof(old, size, roots_of_leaves(leaves))
    verify_consistency(old, size, proof, root_hash(leaves[:old]), root_hash(leaves))


@given(size=_SIZES, data=st.data())
def test_a_tree_with_another_past_is_refused(size: int, data: st.DataObject) -> None:
    """No proof makes a tree consistent with one in which a leaf was another."""
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    leaves = _leaves(size)
    past = leaves[:old]
    past[changed] = leaf_hash(b"another")
    rewritten = [*past, *leaves[old:]]
    for made_from in (leaves, rewritten):
        proof = consistency_proof(old, size, roots_of_leaves(made_from))
        with pytest.raises(VerificationError):
            verify_consistency(old, size, proof, root_hash(past), root_hash(leaves))


@given(size=_SIZES, data=st.data())
def test_an_altered_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:
    """Other sizes, roots or hashes, or one hash more or less: none of them holds."""
    old = data.draw(st.integers(1, size))
    leaves = _leaves(size)
    roots = root_hash(leaves[:old]), root_hash(leaves)
    proof = consistency_proof(old, size, roots_of_leaves(leaves))
    other = leaf_hash(b"another")
    altered = [
        (old, size, proof, other, roots[1]),
        (old, size, proof, roots[0], other),
        (old, size, [*proof, other], *roots),
        (size + 1, size, proof, *roots),
        (-1, size, proof, *roots),
        *((old, size, [*proof[:n], other, *proof[n + 1 :]], *roots) for n in range(len(proof))),
        *((old, size, [*proof[:n], *proof[n + 1 :]], *roots) for n in range(len(proof))),
    ]
    for case in altered:
        with pytest.raises(VerificationError):
            verify_consistency(*case)


def test_nothing_is_proved_of_a_leaf_outside_the_tree() -> None:
    """Neither behind the last leaf nor before the first."""
    for index in (-1, 5, 6):
        with pytest.raises(VerificationError, match=f"leaf {index} is not in a tree of 5"):
            inclusion_ranges(index, 5)


def test_nothing_is_proved_of_a_tree_that_shrank() -> None:
    """An older tree is never the larger one."""
    with pytest.raises(VerificationError, match="did not grow"):
        consistency_ranges(6, 5)


# --- subtrees and frontiers


@given(start=st.integers(0, 5_000), count=st.integers(0, 5_000))
def test_perfect_subtrees_cover_a_range_once(start: int, count: int) -> None:
    """They stand side by side from start to end, and there are few of them."""
    at = start
    nodes = list(perfect_subtrees(start, start + count))
    for height, index in nodes:
        assert index << height == at
        at += 1 << height
    assert at == start + count
    assert len(nodes) <= 2 * max(1, count.bit_length())


@given(size=st.integers(0, 300), gap=st.integers(0, 300), more=st.integers(0, 40))
def test_a_frontier_takes_whole_subtrees(size: int, gap: int, more: int) -> None:
    """The roots of a gap's perfect subtrees stand for its leaves."""
    leaves = _leaves(size + gap + more)
    frontier = Frontier()
    frontier.extend(leaves[:size])
    nodes = list(perfect_subtrees(size, size + gap))
    for (height, _), root in zip(nodes, roots_of_leaves(leaves)(nodes), strict=True):
        frontier.append(root, height)
    frontier.extend(leaves[size + gap :])
    assert (frontier.size, frontier.root()) == (len(leaves), root_hash(leaves))


@given(start=st.integers(0, 70), more=st.integers(0, 70))
def test_many_leaves_are_added_as_one_by_one(start: int, more: int) -> None:
    """`extend` works by levels, and leads to the same edge, from any size."""
    leaves = _leaves(start + more)
    slow, fast = Frontier(), Frontier()
    for each in leaves:
        slow.append(each)
    fast.extend(leaves[:start])
    fast.extend(leaves[start:])
    assert (fast.size, fast.hashes) == (slow.size, slow.hashes)


def test_a_subtree_where_it_can_not_stand_is_refused() -> None:
    """A subtree of two leaves begins at an even leaf."""
    frontier = Frontier()
    frontier.append(leaf_hash(b""))
    with pytest.raises(VerificationError, match="no subtree of 2 leaves begins at leaf 1"):
        frontier.append(leaf_hash(b""), 1)


def test_a_frontier_with_hashes_missing_is_refused() -> None:
    """A tree of three leaves has two edge hashes."""
    with pytest.raises(VerificationError, match="2 edge hashes, not 1"):
        Frontier(3, [leaf_hash(b"")])
