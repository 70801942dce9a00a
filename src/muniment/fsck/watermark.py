"""Where sequencing has come to, held against the last leaves of the trees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from muniment.fsck.findings import Finding, FindingKind, event_id_text
from muniment.stores.trees import BUNDLE_WIDTH, ID_BYTES, Inspected, Trees

_FIRST: Final = 64
"""Events behind the watermark among which one with a leaf is looked for."""
_PAGE: Final = 500


async def true_end(
    trees: Trees, watermark: str | None, sizes: dict[str, int], tenant_id: str | None
) -> tuple[str | None, Finding | None]:
    """The position up to which events have leaves, with a finding if the watermark is before it.

    `sizes` are the trees as they were before the watermark was read: none of their leaves is of an
    event behind it. Only a tree's last leaf there tells that the watermark was set back: another
    one tells that its event was moved. Events are read twice only where something is wrong.
    """
    rows = await trees.inspect(watermark, None, _FIRST, tenant_id)
    if not await _any_has_leaf(trees, rows, sizes):
        return watermark, None
    ends = await _last_events(trees, sizes)
    first, end, after = rows[0], None, watermark
    while rows := await trees.inspect(after, None, _PAGE, tenant_id):
        end = next((r for r in reversed(rows) if (r.tenant_id, r.event_id) in ends), end)
        after = rows[-1].position
    if end is None:
        return watermark, None
    return end.position, Finding(
        kind=FindingKind.TREE,
        tenant_id=end.tenant_id,
        message=f"the position up to which events have leaves, {watermark or 'none'}, was set back:"
        f" they have them up to {end.position}; the sequencer would give event "
        f"{event_id_text(first.event_id)}, and those behind it, a second leaf",
        event_id=event_id_text(first.event_id),
    )


async def _any_has_leaf(trees: Trees, rows: Iterable[Inspected], sizes: dict[str, int]) -> bool:
    for row in rows:
        if len(row.event_id) == ID_BYTES and row.tenant_id in sizes:
            leaf = await trees.leaf_index(row.tenant_id, event_id_text(row.event_id))
            if leaf is not None and leaf < sizes[row.tenant_id]:
                return True
    return False


async def _last_events(trees: Trees, sizes: dict[str, int]) -> set[tuple[str, bytes]]:
    """Tenant and event_id of the last leaf of each tree."""
    found = set()
    for tenant_id, size in sizes.items():
        if size:
            index, place = divmod(size - 1, BUNDLE_WIDTH)
            for bundle in await trees.bundles(tenant_id, index, 1):
                event_id = bundle.event_ids[place * ID_BYTES : (place + 1) * ID_BYTES]
                found.add((tenant_id, event_id))
    return found
