"""A real log in a real store, which grows and publishes when a test says so."""

from __future__ import annotations

from muniment import AuditLog, Event
from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.growing import frontier_of, grow
from muniment.keys import SigningKey
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.trees import Published
from tests.proofs.trails import LOG_KEY


async def extend(
    url: str,
    count: int,
    *,
    tenant_id: str = "acme",
    key: SigningKey | None = LOG_KEY,
    action: str = "invoice.create",
) -> Published | None:
    """Record so many events, give them leaves, and publish a checkpoint if there is a key."""
    async with AuditLog.open(url, sequence=False) as log:
        await log.record_many([Event(action=action, tenant_id=tenant_id) for _ in range(count)])
    store = open_store(url)
    await store.open()
    try:
        while await store.trees.integrate(1000, grow):
            pass
        return None if key is None else await _publish(store, tenant_id, key)
    finally:
        await store.close()


async def _publish(store: Store, tenant_id: str, key: SigningKey) -> Published:
    tree = await store.trees.tree(tenant_id)
    assert tree is not None
    root = frontier_of(tree).root()
    key = key.for_tenant(tenant_id)
    checkpoint = Checkpoint(origin=key.name, tree_size=tree.tree_size, root_hash=root)
    published = Published(
        tenant_id=tenant_id,
        tree_size=tree.tree_size,
        root_hash=root,
        note=sign_checkpoint(checkpoint, [key]),
        previous_size=tree.published_size,
    )
    assert await store.trees.publish([published]) == []
    return published
