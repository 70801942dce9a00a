"""Leaves without an event and events without a leaf: which of them belong together."""

from __future__ import annotations

from collections.abc import Iterator

from muniment.fsck.examining import Examined, judge
from muniment.fsck.findings import Finding, FindingKind, event_id_text
from muniment.fsck.leaves import NO_HASH
from muniment.fsck.matching import Stray, Strays, out_of_order


def reconcile(strays: Strays) -> Iterator[Finding]:
    """What became of them: moved to another tenant or place, gone, or slipped in."""
    by_id = {stray.event_id: stray for stray in strays.leaves}
    by_hash = {stray.leaf_hash: stray for stray in strays.leaves if stray.leaf_hash != NO_HASH}
    found: set[int] = set()
    for stray in strays.events:
        event = stray.event
        if event is None:
            continue
        leaf = by_id.get(event.event_id)
        if leaf is None or id(leaf) in found:
            leaf = by_hash.get(event.body_hash or event.leaf_hash)
        if leaf is None or id(leaf) in found:
            yield _slipped_in(event)
            continue
        found.add(id(leaf))
        yield from _elsewhere(event, leaf)
    for stray in strays.leaves:
        if id(stray) not in found:
            yield _gone(stray)
    yield from _unlisted(strays)


def _elsewhere(event: Examined, leaf: Stray) -> Iterator[Finding]:
    index = leaf.leaf_index or 0
    is_own = event.tenant_id == leaf.tenant_id
    for finding in judge(event, leaf.leaf_hash, index):
        # That its tenant_id column differs from its body is what moving it means.
        if is_own or finding.kind is not FindingKind.COLUMN:
            yield finding
    if is_own:
        yield out_of_order(event, index)
        return
    event_id = event_id_text(event.event_id)
    yield Finding(
        kind=FindingKind.MOVED,
        tenant_id=leaf.tenant_id,
        message=f"event {event_id}: it was moved to tenant {event.tenant_id!r}; here it is leaf "
        f"{index}",
        event_id=event_id,
        leaf_index=index,
    )


def _slipped_in(event: Examined) -> Finding:
    event_id = event_id_text(event.event_id)
    message = (
        f"event {event_id}: it has no leaf, though what was recorded after it has: it was slipped "
        "in, or moved here"
    )
    about = [*event.columns, *filter(None, [event.form])]
    if event.body_hash not in (None, event.leaf_hash):
        about.append("its leaf_hash column is not its body's")
    if about:
        message += f" ({'; '.join(about)})"
    return Finding(
        kind=FindingKind.NO_LEAF, tenant_id=event.tenant_id, message=message, event_id=event_id
    )


def _gone(stray: Stray) -> Finding:
    is_known = len(stray.event_id) == 16
    event_id = event_id_text(stray.event_id) if is_known else None
    name = f"event {event_id}" if is_known else "an event whose id is not known any more"
    return Finding(
        kind=FindingKind.MISSING,
        tenant_id=stray.tenant_id,
        message=f"{name}: it is gone, and was leaf {stray.leaf_index}",
        event_id=event_id,
        leaf_index=stray.leaf_index,
    )


def _unlisted(strays: Strays) -> Iterator[Finding]:
    for kind, counts, what in (
        (FindingKind.MISSING, strays.unlisted_leaves, "leaves have no event"),
        (FindingKind.NO_LEAF, strays.unlisted_events, "events have no leaf"),
    ):
        for tenant_id, count in counts.items():
            yield Finding(
                kind=kind, tenant_id=tenant_id, message=f"{count} more {what}; too many to name"
            )
