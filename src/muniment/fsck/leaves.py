"""A tenant's leaves from its tiles and bundles, some of them kept at hand."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from muniment.merkle import HASH_BYTES
from muniment.stores.trees import BUNDLE_WIDTH, ID_BYTES, Trees

_KEPT_BYTES: Final = 64 * 1024 * 1024
_ROW_BYTES: Final = 400
"""What one costs beside its bytes."""


class LeafRow(NamedTuple):
    """A bundle and the tile of level 0 that it stands beside: as many event_ids as hashes.

    Where one of the two lacks some, they are zeros (`NO_ID`, `NO_HASH`).
    """

    first_position: str | None
    event_ids: bytes
    hashes: bytes

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return len(self.hashes) // HASH_BYTES


NO_ID: Final = bytes(ID_BYTES)
NO_HASH: Final = bytes(HASH_BYTES)
_EMPTY: Final = LeafRow(None, b"", b"")


class Leaves:
    """Leaves of all tenants. What it keeps at hand takes 64 MB at most, whoever's they are."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._rows: OrderedDict[tuple[str, int], LeafRow] = OrderedDict()
        self._bytes = 0

    async def get(self, tenant_id: str, start: int, count: int) -> tuple[bytes, bytes]:
        """The event_ids and hashes of `count` leaves from `start` on; fewer where they end."""
        if count <= 0:
            return b"", b""
        first, last = start // BUNDLE_WIDTH, (start + count - 1) // BUNDLE_WIDTH
        rows = [self._kept(tenant_id, index) for index in range(first, last + 1)]
        end = start + count - last * BUNDLE_WIDTH
        lacking = [
            first + n
            for n, row in enumerate(rows)
            if row.leaves < (end if first + n == last else BUNDLE_WIDTH)
        ]
        if lacking:
            await self._fetch(tenant_id, lacking[0], lacking[-1])
            rows = [self._kept(tenant_id, index) for index in range(first, last + 1)]
        event_ids, hashes = [], []
        for row in rows:
            event_ids.append(row.event_ids[: row.leaves * ID_BYTES])
            hashes.append(row.hashes[: row.leaves * HASH_BYTES])
            if row.leaves < BUNDLE_WIDTH:
                break
        skipped = start - first * BUNDLE_WIDTH
        return (
            b"".join(event_ids)[skipped * ID_BYTES : (skipped + count) * ID_BYTES],
            b"".join(hashes)[skipped * HASH_BYTES : (skipped + count) * HASH_BYTES],
        )

    async def first_position(self, tenant_id: str, index: int) -> str | None:
        """The position that a bundle gives for its first event."""
        if not self._kept(tenant_id, index).leaves:
            await self._fetch(tenant_id, index, index)
        return self._kept(tenant_id, index).first_position

    def _kept(self, tenant_id: str, index: int) -> LeafRow:
        row = self._rows.get((tenant_id, index))
        if row is None:
            return _EMPTY
        self._rows.move_to_end((tenant_id, index))
        return row

    async def _fetch(self, tenant_id: str, first: int, last: int) -> None:
        indexes = range(first, last + 1)
        bundles = await self._trees.bundles(tenant_id, first, len(indexes))
        tiles = await self._trees.tiles(tenant_id, [(0, index) for index in indexes])
        by_index = {bundle.index: bundle for bundle in bundles}
        for index in indexes:
            bundle = by_index.get(index)
            event_ids, hashes = bundle.event_ids if bundle else b"", tiles.get((0, index), b"")
            count = max(len(event_ids) // ID_BYTES, len(hashes) // HASH_BYTES)
            row = LeafRow(
                bundle.first_position if bundle else None,
                event_ids.ljust(count * ID_BYTES, b"\0"),
                hashes.ljust(count * HASH_BYTES, b"\0"),
            )
            self._keep((tenant_id, index), row)

    def _keep(self, key: tuple[str, int], row: LeafRow) -> None:
        known = self._rows.pop(key, None)
        self._rows[key] = row
        self._bytes += _size(row) - (_size(known) if known else 0)
        while self._bytes > _KEPT_BYTES and len(self._rows) > 1:
            _, dropped = self._rows.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(row: LeafRow) -> int:
    return len(row.event_ids) + len(row.hashes) + _ROW_BYTES
