"""The contract of a store's trees: what it keeps of each tenant's transparency log.

pending → sequenced and integrated → published → anchored. Each arrow is one durable step: it
happened wholly or not at all, and whoever comes next reads from the store how far it got.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from muniment.tiles import Tile

BUNDLE_WIDTH: Final = 256
"""Event ids in a bundle: as many as leaf hashes in a tile of level 0, which it stands beside."""
ID_BYTES: Final = 16


class PendingEvent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An event that has no leaf yet. `event_id` are its 16 bytes."""

    position: str
    tenant_id: str
    event_id: bytes
    leaf_hash: bytes


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's tree as it stands.

    `edge` are the roots of its largest perfect subtrees, left to right, 32 bytes each: with them it
    grows. `published_size` is the tree_size of its newest checkpoint, 0 without one.
    """

    tenant_id: str
    tree_size: int = 0
    edge: bytes = b""
    published_size: int = 0


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant's tree gains: `tree` as it will be, and bytes at the ends of tiles and bundles.

    `old_size` is what its tree_size was. `bundles` maps a bundle's index to the position of the
    first event that it gains, and to the event ids that it gains.
    """

    old_size: int
    tree: Tree
    tiles: Mapping[Tile, bytes]
    bundles: Mapping[int, tuple[str, bytes]]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """The event ids of 256 neighbouring leaves (fewer at the end of the tree), 16 bytes each."""

    index: int
    first_position: str
    event_ids: bytes


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as it was published. `note` is the signed text (C2SP tlog-checkpoint).

    `previous_size` is the tree_size of the one before it, 0 if there is none.
    """

    tenant_id: str
    tree_size: int
    root_hash: bytes
    note: str
    previous_size: int = 0


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How far sequencing is behind. `seconds` is the age of the oldest event without a leaf, or 0.

    `culprits` names what holds it up: transactions that began earlier and have not ended, each by
    its pid or, if it is prepared, by its gid.
    """

    seconds: float = 0.0
    culprits: tuple[str, ...] = ()


class Inspected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event with every column as it is stored, whatever became of them.

    `body` and `terms` are their bytes of UTF-8; `body` is None once it was erased. `is_ahead` says
    that its position can't have been given to anything yet.
    """

    position: str
    tenant_id: str
    event_id: bytes
    leaf_hash: bytes
    terms: bytes
    body: bytes | None
    is_ahead: bool = False


class RowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tiles, bundles and checkpoints of a tenant are stored."""

    tiles: int
    bundles: int
    checkpoints: int


Grow = Callable[[Sequence[PendingEvent], Mapping[str, Tree]], Sequence[Growth]]
"""Gives what the trees of these tenants gain by these events, which come in their order.

A tenant whose first event this is has no tree yet.
"""


class Trees(ABC):
    """Keeps the trees of all tenants beside their events. Errors are those of `Store`.

    What is integrated or published MUST never be changed or removed but by growing at its end.
    """

    # --- the sequencer's side

    @abstractmethod
    async def why_not(self) -> str | None:
        """Why this store's user may not sequence, with the remedy; None if it may."""

    @abstractmethod
    async def integrate(self, limit: int, grow: Grow) -> int:
        """Give up to `limit` pending events their leaves, in order of recording; returns how many.

        MUST be one durable step, and MUST leave out what an event not yet visible may come before.
        It MAY take more, if they are the rest of one transaction of the database. Any number of
        processes may call it: one works, the others return 0 at once or find nothing left. Every
        event MUST get exactly one leaf. `grow` runs outside the event loop.
        """

    @abstractmethod
    async def unpublished(self, limit: int) -> list[Tree]:
        """Up to `limit` trees that have grown since their newest checkpoint."""

    @abstractmethod
    async def publish(self, checkpoints: Sequence[Published]) -> list[str]:
        """Keep checkpoints, in one durable step; returns the tenants whose checkpoint was refused.

        Compare-and-swap: one is kept only if the newest kept so far is of `previous_size`, if it is
        larger than that, no larger than the tree, and, if it is as large as the tree, its root is
        the tree's.
        """

    @abstractmethod
    async def unanchored(self, limit: int) -> list[Published]:
        """The newest checkpoints of up to `limit` tenants that are not marked as anchored."""

    @abstractmethod
    async def mark_anchored(self, checkpoints: Iterable[tuple[str, int]]) -> None:
        """Note that these checkpoints, (tenant_id, tree_size), are where they should be."""

    @abstractmethod
    async def add_signatures(self, tenant_id: str, tree_size: int, lines: str) -> None:
        """Put signature lines (each ends in a newline) at the end of a checkpoint's note.

        Lines that it has already are left out.
        """

    @abstractmethod
    async def lag(self) -> Lag:
        """How far sequencing is behind, and on whose account."""

    # --- everybody's side

    @abstractmethod
    async def tree(self, tenant_id: str) -> Tree | None:
        """The tree of a tenant; None if it has no leaf, or this user may not see it."""

    @abstractmethod
    async def trees(self, after: str | None, limit: int) -> list[Tree]:
        """Up to `limit` trees in order of tenant_id (by its UTF-8 bytes), behind `after`."""

    @abstractmethod
    async def tiles(self, tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        """Those of the tiles that are there: hashes, 32 bytes each."""

    @abstractmethod
    async def bundles(self, tenant_id: str, first: int, count: int) -> list[Bundle]:
        """Those of `count` bundles from index `first` on that are there, in order."""

    @abstractmethod
    async def row_counts(self, tenant_id: str) -> RowCounts:
        """How many rows the tenant's tree takes; counted, so it may take a while."""

    @abstractmethod
    async def leaf_index(self, tenant_id: str, event_id: str) -> int | None:
        """The leaf_index of an event; None if it is not integrated, or not there. O(log n) rows."""

    @abstractmethod
    async def checkpoint(self, tenant_id: str, tree_size: int | None = None) -> Published | None:
        """The checkpoint of that tree_size, or the newest."""

    @abstractmethod
    async def checkpoints(self, tenant_id: str, after: int, limit: int) -> list[Published]:
        """Up to `limit` checkpoints larger than `after`, the smallest first."""

    @abstractmethod
    async def integrated_to(self) -> str | None:
        """The position up to which every event has its leaf; None at the very beginning."""

    @abstractmethod
    async def inspect(
        self, after: str | None, until: str | None, limit: int, tenant_id: str | None = None
    ) -> list[Inspected]:
        """Up to `limit` events in order of recording, behind `after`, up to and with `until`.

        None is no bound: unlike `Store.read`, it MUST show what stands before all that was ever
        recorded, and what is not settled yet. Of several at one position it MUST show all, even
        beyond `limit`.
        """
