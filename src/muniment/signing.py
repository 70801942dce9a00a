"""Turns trees into signed checkpoints, one origin for each tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.growing import frontier_of
from muniment.keys import SigningKey
from muniment.stores.trees import Published, Tree

_KEPT: Final = 1_000


class Signer:
    """Signs with every one of its keys: while keys are rotated, both old and new vouch."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(keys)
        self._of_tenants: dict[str, tuple[SigningKey, ...]] = {}

    def sign(self, tree: Tree) -> Published:
        """The checkpoint of a tree as it stands, to be published. Raises `InvalidKey`."""
        keys = self._of_tenants.get(tree.tenant_id)
        if keys is None:
            if len(self._of_tenants) >= _KEPT:
                self._of_tenants.clear()
            keys = tuple(key.for_tenant(tree.tenant_id) for key in self._keys)
            self._of_tenants[tree.tenant_id] = keys
        root = frontier_of(tree).root()
        checkpoint = Checkpoint(origin=keys[0].name, tree_size=tree.tree_size, root_hash=root)
        return Published(
            tenant_id=tree.tenant_id,
            tree_size=tree.tree_size,
            root_hash=root,
            note=sign_checkpoint(checkpoint, keys),
            previous_size=tree.published_size,
        )
