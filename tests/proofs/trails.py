"""A tenant's trail in memory: its leaves, and checkpoints of it that a key signs when told to."""

from __future__ import annotations

from collections.abc import Sequence

from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.keys import KeyKind, SigningKey
from muniment.merkle import consistency_proof, leaf_hash, root_hash, roots_of_leaves
from muniment.stores.trees import Published

LOG_KEY = SigningKey.from_seed("audit.example/log", b"\1" * 32)
OTHER_LOG_KEY = SigningKey.from_seed("other.example/log", b"\2" * 32)
WITNESS_KEY = SigningKey.from_seed("witness.example/w1", b"\3" * 32, kind=KeyKind.WITNESS)
OTHER_WITNESS_KEY = SigningKey.from_seed("witness.example/w2", b"\4" * 32, kind=KeyKind.WITNESS)


class Trail:
    """The leaves of one tenant; `story` makes those of another history under the same name."""

    def __init__(
        self, tenant_id: str = "acme", *, key: SigningKey = LOG_KEY, story: str = "true"
    ) -> None:
        self.tenant_id = tenant_id
        self.key = key.for_tenant(tenant_id)
        self.leaves = [leaf_hash(f"{story} {n}".encode()) for n in range(64)]

    def checkpoint(self, size: int, previous_size: int = 0) -> Published:
        """The signed checkpoint of the first `size` leaves."""
        root = root_hash(self.leaves[:size])
        checkpoint = Checkpoint(origin=self.key.name, tree_size=size, root_hash=root)
        return Published(
            tenant_id=self.tenant_id,
            tree_size=size,
            root_hash=root,
            note=sign_checkpoint(checkpoint, [self.key]),
            previous_size=previous_size,
        )

    def proof(self, old_size: int, new_size: int) -> list[bytes]:
        """That the tree of `new_size` leaves grew out of the one of `old_size`."""
        return consistency_proof(old_size, new_size, roots_of_leaves(self.leaves))

    async def prove(self, old_size: int, new_size: int) -> Sequence[bytes]:
        """The same, as anchors ask for it."""
        return self.proof(old_size, new_size)
