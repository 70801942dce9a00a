"""Makes proofs from a store's tiles: each reads a few rows, however large the tree is."""

from __future__ import annotations

from collections.abc import Sequence

from muniment.errors import InvalidQuery, NotPublished, VerificationError
from muniment.merkle import consistency_proof, consistency_ranges, inclusion_proof, inclusion_ranges
from muniment.proofs import ConsistencyProof, InclusionProof
from muniment.stores.trees import Published, Trees
from muniment.tiles import roots_from, tiles_of

_NO_CHECKPOINT = (
    "tenant {!r} has no checkpoint yet: give a log a key to sign with (`muniment keygen`), and let "
    "it sequence"
)


async def newest_checkpoint(trees: Trees, tenant_id: str) -> Published:
    """The newest checkpoint of a tenant. Raises `NotPublished` if it has none."""
    found = await trees.checkpoint(tenant_id)
    if found is None:
        raise NotPublished(_NO_CHECKPOINT.format(tenant_id))
    return found


async def prove_inclusion(trees: Trees, tenant_id: str, event_id: str) -> InclusionProof:
    """Proof that an event that is stored is in its tenant's tree, under the newest checkpoint.

    Raises `NotPublished` while no checkpoint covers it.
    """
    index = await trees.leaf_index(tenant_id, event_id)
    if index is None:
        raise NotPublished(f"event {event_id} has no leaf yet: it waits for the sequencer")
    published = await newest_checkpoint(trees, tenant_id)
    if index >= published.tree_size:
        raise NotPublished(f"event {event_id} is leaf {index}, behind the newest checkpoint")
    wanted = tiles_of(inclusion_ranges(index, published.tree_size))
    proof = inclusion_proof(
        index, published.tree_size, roots_from(await trees.tiles(tenant_id, wanted))
    )
    return InclusionProof(leaf_index=index, hashes=tuple(proof), checkpoint=published.note)


async def prove_consistency(
    trees: Trees, tenant_id: str, old_size: int, new_size: int
) -> Sequence[bytes]:
    """The hashes that prove that the tree of `new_size` leaves grew out of that of `old_size`.

    Raises `VerificationError` for sizes that the tree never had.
    """
    tiles = await trees.tiles(tenant_id, tiles_of(consistency_ranges(old_size, new_size)))
    return consistency_proof(old_size, new_size, roots_from(tiles))


async def consistency_between(
    trees: Trees, tenant_id: str, old: int | Published, new: int | Published | None
) -> ConsistencyProof:
    """Proof between two tree sizes or checkpoints; without a newer one, to the newest."""
    if new is None:
        new = await newest_checkpoint(trees, tenant_id)
    old_size, new_size = (each if isinstance(each, int) else each.tree_size for each in (old, new))
    if not 0 <= old_size <= new_size:
        raise InvalidQuery(
            "old", f"is {old_size}, which isn't from 0 to {new_size}, the newer size"
        )
    tree = await trees.tree(tenant_id)
    if new_size > (tree.tree_size if tree else 0):
        size = tree.tree_size if tree else 0
        raise InvalidQuery("new", f"is {new_size}, but the tree has {size} leaves")
    try:
        hashes = await prove_consistency(trees, tenant_id, old_size, new_size)
    except VerificationError as error:
        raise VerificationError(f"the tree of tenant {tenant_id!r} is damaged: {error}") from error
    return ConsistencyProof(old_size=old_size, new_size=new_size, hashes=tuple(hashes))
