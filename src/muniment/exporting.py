"""Exports evidence: a tenant's events, with what proves them, from a store into one file."""

from __future__ import annotations

import os
from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from muniment.actions import Category
from muniment.canonical import decode
from muniment.checkpoint import checkpoint_in
from muniment.errors import InvalidQuery, MunimentError, VerificationError
from muniment.event import Event
from muniment.event_id import event_id_of
from muniment.evidence import EvidenceWriter
from muniment.merkle import perfect_subtrees
from muniment.proving import newest_checkpoint, prove_consistency
from muniment.query import EventFilter
from muniment.stores.base import Store, StoredEvent
from muniment.stores.trees import BUNDLE_WIDTH, ID_BYTES, Published
from muniment.tiles import Tile, roots_from, tiles_under

_BUNDLES: Final = 64
"""Bundles that are read at a time."""
_TILES_KEPT: Final = 64


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an evidence file came to hold.

    `events` are there with their bodies, `erased` by their leaf hashes; `tree_size` is that of the
    checkpoint, and `unpublished` how many newer leaves it doesn't cover.
    """

    events: int
    erased: int
    tree_size: int
    unpublished: int


async def export_evidence(
    store: Store,
    path: str | os.PathLike[str],
    wanted: EventFilter,
    *,
    category_of: Callable[[str], Category],
    old_checkpoint: str | None = None,
    described: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Exported:
    """Write the tenant's events that `wanted` asks for, proved by the newest checkpoint.

    The file holds them in the order of their leaves, and for all other leaves hashes. Erased events
    are among them if only times were asked for. With an `old_checkpoint` (a signed note) it proves
    too that nothing changed since. Nothing is left behind unless the file is whole and proves what
    it says. `progress` is told how many leaves are done, of twice those under the checkpoint: they
    are chosen first, and written then. Raises `NotPublished`, `VerificationError`,
    `MunimentError`.
    """
    tenant_id = wanted.tenant_id
    if tenant_id is None:
        raise InvalidQuery("tenant_id", "is needed: evidence is of one tenant's trail")
    published = await newest_checkpoint(store.trees, tenant_id)
    tree = await store.trees.tree(tenant_id)
    consistency = []
    if old_checkpoint is not None:
        old = checkpoint_in(old_checkpoint)
        new = checkpoint_in(published.note)
        if old.origin != new.origin:
            raise VerificationError(
                f"the old checkpoint is of {old.origin}, and the log's are of {new.origin}"
            )
        consistency = list(
            await prove_consistency(store.trees, tenant_id, old.tree_size, new.tree_size)
        )
    source = _Leaves(store, published, wanted, category_of)
    chosen = array("Q")
    total = 2 * published.tree_size
    async for index, _ in source.chosen():
        chosen.append(index)
        progress(index + 1, total)
    events = erased = 0
    with EvidenceWriter(
        Path(path),
        tenant_id=tenant_id,
        checkpoint=published.note,
        first_leaf=chosen[0] if chosen else 0,
        leaves=chosen[-1] + 1 - chosen[0] if chosen else 0,
        old_checkpoint=old_checkpoint,
        consistency=consistency,
        filter=described or {},
    ) as writer:
        async for index, event in source.chosen():
            if index > writer.next_leaf:
                await source.omit(writer, index)
            if event.body is None:
                writer.erased(event.leaf_hash)
                erased += 1
            else:
                writer.event(event.body.encode(), event.leaf_hash)
                events += 1
            progress(published.tree_size + index + 1, total)
        await source.omit(writer, published.tree_size)
    progress(total, total)
    return Exported(
        events=events,
        erased=erased,
        tree_size=published.tree_size,
        unpublished=(tree.tree_size if tree else 0) - published.tree_size,
    )


class _Leaves:
    """The leaves under a checkpoint, and those of them that a filter asks for."""

    def __init__(
        self,
        store: Store,
        published: Published,
        wanted: EventFilter,
        category_of: Callable[[str], Category],
    ) -> None:
        self._store = store
        self._published = published
        self._wanted = wanted
        self._category_of = category_of
        self._first = _milliseconds(wanted.since)
        self._last = _milliseconds(wanted.until)
        self._only_times = wanted == EventFilter(
            tenant_id=wanted.tenant_id, since=wanted.since, until=wanted.until
        )
        self._tiles: dict[Tile, bytes] = {}

    async def chosen(self) -> AsyncIterator[tuple[int, StoredEvent]]:
        """The leaf index of each event that is asked for, in order, and the event."""
        size, tenant_id = self._published.tree_size, self._published.tenant_id
        for first in range(0, -(-size // BUNDLE_WIDTH), _BUNDLES):
            for bundle in await self._store.trees.bundles(tenant_id, first, _BUNDLES):
                start = bundle.index * BUNDLE_WIDTH
                ids = {
                    start + n: event_id_of(bundle.event_ids[n * ID_BYTES : (n + 1) * ID_BYTES])
                    for n in range(min(len(bundle.event_ids) // ID_BYTES, size - start))
                    if self._may_be_asked_for(bundle.event_ids, n)
                }
                if not ids:
                    continue
                got = await self._store.get_many(list(ids.values()), tenant_id)
                found = {event.event_id: event for event in got}
                for index, event_id in ids.items():
                    event = found.get(event_id)
                    if event is None:
                        raise MunimentError(
                            f"event {event_id}, leaf {index} of tenant {tenant_id!r}, is not in "
                            "the store; run `muniment fsck`"
                        )
                    if self._is_asked_for(event):
                        yield index, event

    async def omit(self, writer: EvidenceWriter, end: int) -> None:
        """Tell the writer of all leaves up to `end` that they are not in the file."""
        start = writer.next_leaf
        nodes = list(perfect_subtrees(start, end))
        needed = tiles_under(nodes)
        missing = needed - self._tiles.keys()
        if missing:
            if len(self._tiles) > _TILES_KEPT:
                self._tiles.clear()
                missing = needed
            tenant_id = self._published.tenant_id
            self._tiles |= await self._store.trees.tiles(tenant_id, missing)
        writer.omitted(start, end, roots_from(self._tiles)(nodes))

    def _may_be_asked_for(self, event_ids: bytes, n: int) -> bool:
        """Whether an id's time, to the millisecond, is among those that are asked for."""
        milliseconds = int.from_bytes(event_ids[n * ID_BYTES : n * ID_BYTES + 6], "big")
        return (self._first is None or milliseconds >= self._first) and (
            self._last is None or milliseconds <= self._last
        )

    def _is_asked_for(self, event: StoredEvent) -> bool:
        if event.body is None:
            return self._only_times
        decoded: Event = decode(event.body)
        return self._wanted.matches(decoded, event.body, self._category_of)


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
