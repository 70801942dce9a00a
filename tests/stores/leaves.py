"""What a test asks of a tenant's leaves."""

from __future__ import annotations

from uuid import UUID

from muniment.growing import grow
from muniment.stores.base import Store
from muniment.stores.trees import ID_BYTES
from muniment.tiles import hashes_in

Leaf = tuple[str, bytes]
"""(event_id, leaf_hash)."""


async def integrate_all(store: Store, limit: int = 1000) -> int:
    """Give every event that may have one its leaf; returns how many got one."""
    total = 0
    while done := await store.trees.integrate(limit, grow):
        total += done
    return total


async def leaves_of(store: Store, tenant_id: str) -> list[Leaf]:
    """A tenant's leaves, as its bundles and its tiles of level 0 hold them side by side."""
    tree = await store.trees.tree(tenant_id)
    if tree is None:
        return []
    count = -(-tree.tree_size // 256)
    bundles = await store.trees.bundles(tenant_id, 0, count)
    tiles = await store.trees.tiles(tenant_id, [(0, index) for index in range(count)])
    ids = b"".join(bundle.event_ids for bundle in bundles)
    hashes = [each for index in range(count) for each in hashes_in(tiles[0, index])]
    assert len(ids) == tree.tree_size * ID_BYTES
    event_ids = [
        str(UUID(bytes=ids[place : place + ID_BYTES])) for place in range(0, len(ids), ID_BYTES)
    ]
    return list(zip(event_ids, hashes, strict=True))


async def in_order(store: Store, tenant_id: str) -> list[Leaf]:
    """A tenant's events, in the order of recording."""
    events = await store.read(None, 1_000_000, tenant_id)
    return [(event.stored.event_id, event.stored.leaf_hash) for event in events]
