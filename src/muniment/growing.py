"""What trees gain by events: who gets which leaf, and the bytes that tiles and bundles gain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from muniment.errors import VerificationError
from muniment.merkle import Frontier
from muniment.stores.trees import BUNDLE_WIDTH, Growth, PendingEvent, Tree
from muniment.tiles import append_leaves, hashes_in


def grow(events: Sequence[PendingEvent], trees: Mapping[str, Tree]) -> list[Growth]:
    """The growth of each tenant's tree by its events, in their order; one for each tenant."""
    by_tenant: dict[str, list[PendingEvent]] = {}
    for event in events:
        by_tenant.setdefault(event.tenant_id, []).append(event)
    return [
        _grow_one(trees.get(tenant_id) or Tree(tenant_id=tenant_id), come)
        for tenant_id, come in by_tenant.items()
    ]


def frontier_of(tree: Tree) -> Frontier:
    """The right edge of a tree, to grow or to take its root.

    Raises `VerificationError` with the tenant's name if it is damaged.
    """
    try:
        return Frontier(tree.tree_size, hashes_in(tree.edge))
    except VerificationError as error:
        raise VerificationError(
            f"the tree of tenant {tree.tenant_id!r} is damaged: {error}; run `muniment fsck`"
        ) from None


def _grow_one(tree: Tree, events: Sequence[PendingEvent]) -> Growth:
    frontier = frontier_of(tree)
    tiles = append_leaves(frontier, [event.leaf_hash for event in events])
    return Growth(
        old_size=tree.tree_size,
        tree=Tree(
            tenant_id=tree.tenant_id,
            tree_size=frontier.size,
            edge=b"".join(frontier.hashes),
            published_size=tree.published_size,
        ),
        tiles=tiles,
        bundles=dict(_bundles(tree.tree_size, events)),
    )


def _bundles(start: int, events: Sequence[PendingEvent]) -> Iterator[tuple[int, tuple[str, bytes]]]:
    taken = 0
    while taken < len(events):
        index, filled = divmod(start + taken, BUNDLE_WIDTH)
        part = events[taken : taken + BUNDLE_WIDTH - filled]
        yield index, (part[0].position, b"".join([event.event_id for event in part]))
        taken += len(part)
