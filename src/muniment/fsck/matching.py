"""Events in order of recording, held against the leaves of their tenant's tree.

The n-th event of a tenant is its n-th leaf. Where it isn't, the events are held back until some
more of the tenant have come; the longest run of them that is in the order of the leaves then tells
which of the others are out of place, and which leaves have no event.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from muniment.fsck.examining import Examined, judge
from muniment.fsck.findings import Finding, FindingKind, event_id_text
from muniment.fsck.leaves import NO_HASH, NO_ID, Leaves
from muniment.merkle import HASH_BYTES
from muniment.stores.trees import BUNDLE_WIDTH, ID_BYTES, Trees

_HELD: Final = 64
"""Events of a tenant that are looked at together once one is not where it should be."""
_UNSURE: Final = 32
"""The last of them, of which those to come tell whether they fit."""
_AHEAD: Final = 1024
"""Leaves among which events are looked for before the store is asked for each of them."""
_WAITED_FOR: Final = 10_000
"""Leaves of a tenant whose events may still come; those of more are looked for at the end."""
_LISTED: Final = 200_000
"""Leaves without an event, and events without a leaf, that are kept to be compared; each."""


class Stray(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A leaf without an event, or an event without a leaf, of a tenant.

    `event` is None for a leaf; `leaf_index` is None for an event.
    """

    tenant_id: str
    event_id: bytes
    leaf_hash: bytes
    leaf_index: int | None = None
    event: Examined | None = None


class Trail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far one tenant's events have been matched."""

    next: int = 0
    """The leaf that the next event should be."""
    held: list[Examined] = []
    passed: dict[bytes, tuple[int, bytes]] = {}
    """Leaves before `next` that no event has come for: by event_id, their index and hash."""
    early: set[int] = set()
    """Leaves from `next` on whose event has come already."""


class Strays(msgspec.Struct, kw_only=True):
    """Leaves without an event, and events without a leaf: `unlisted` more of each are counted."""

    leaves: list[Stray] = []
    events: list[Stray] = []
    unlisted_leaves: dict[str, int] = {}
    unlisted_events: dict[str, int] = {}

    def add_leaf(self, stray: Stray) -> None:
        """Keep a leaf that has no event, or count it."""
        _keep(stray, self.leaves, self.unlisted_leaves)

    def add_event(self, stray: Stray) -> None:
        """Keep an event that has no leaf, or count it."""
        _keep(stray, self.events, self.unlisted_events)


def _keep(stray: Stray, listed: list[Stray], unlisted: dict[str, int]) -> None:
    if len(listed) < _LISTED:
        listed.append(stray)
    else:
        unlisted[stray.tenant_id] = unlisted.get(stray.tenant_id, 0) + 1


class Matcher:
    """Matches events that must have a leaf. `tell` gets what is wrong with single ones."""

    def __init__(
        self,
        trees: Trees,
        trails: dict[str, Trail],
        strays: Strays,
        tell: Callable[[Finding], None],
    ) -> None:
        self._trees = trees
        self._leaves = Leaves(trees)
        self._trails = trails
        self._strays = strays
        self._tell = tell

    async def take(self, tenant_id: str, events: Sequence[Examined]) -> None:
        """Match the next events of a tenant."""
        trail = self._trails.get(tenant_id)
        if trail is None:
            trail = self._trails[tenant_id] = Trail()
        if trail.held:
            events = [*trail.held, *events]
        if await self._take_quickly(tenant_id, trail, events):
            trail.held = []
            return
        trail.held = list(events)
        if len(trail.held) >= _HELD:
            await self._place_held(tenant_id, trail, unsure=_UNSURE)

    async def finish(self, tenant_id: str, tree_size: int) -> None:
        """Match what is held of a tenant; what leaves of `tree_size` are left have no event."""
        trail = self._trails.get(tenant_id) or Trail()
        if trail.held:
            await self._place_held(tenant_id, trail, unsure=0)
        while trail.next < tree_size:
            count = min(tree_size - trail.next, _AHEAD)
            await self._pass(tenant_id, trail, trail.next + count)
        self._spill(tenant_id, trail, most=0)
        # How far it came is all that is still of interest.
        self._trails[tenant_id] = Trail(next=trail.next)

    async def _take_quickly(self, tenant_id: str, trail: Trail, events: Sequence[Examined]) -> bool:
        """Match events each of which is the leaf that it should be; False if one isn't."""
        ids, hashes = await self._leaves.get(tenant_id, trail.next, len(events))
        if ids != b"".join([event.event_id for event in events]):
            return False
        await self._compare_first_positions(tenant_id, trail.next, events)
        start, trail.next = trail.next, trail.next + len(events)
        is_plain = all(event.is_plain for event in events)
        if not is_plain or hashes != b"".join([event.leaf_hash for event in events]):
            for n, event in enumerate(events):
                self._judge(event, start + n, hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES])
        return True

    def _judge(self, event: Examined, leaf_index: int, leaf: bytes) -> None:
        for finding in judge(event, None if leaf == NO_HASH else leaf, leaf_index):
            self._tell(finding)

    async def _compare_first_positions(
        self, tenant_id: str, start: int, events: Sequence[Examined]
    ) -> None:
        """A bundle is found by the position of its first event, so that must be right."""
        for n in range(-start % BUNDLE_WIDTH, len(events), BUNDLE_WIDTH):
            index = (start + n) // BUNDLE_WIDTH
            position = await self._leaves.first_position(tenant_id, index)
            if position not in (None, events[n].position):
                problem = f"bundle {index} gives another position for its first event"
                self._tell_of_tree(tenant_id, events[n], start + n, problem)

    def _tell_of_tree(self, tenant_id: str, event: Examined, leaf_index: int, problem: str) -> None:
        event_id = event_id_text(event.event_id)
        self._tell(
            Finding(
                kind=FindingKind.TREE,
                tenant_id=tenant_id,
                message=f"{problem}, which is {event_id}",
                event_id=event_id,
                leaf_index=leaf_index,
            )
        )

    # --- where something is wrong

    async def _place_held(self, tenant_id: str, trail: Trail, *, unsure: int) -> None:
        """Match what is held, but for the last `unsure`: what follows tells whether they fit."""
        events = trail.held
        places = await self._places_of(tenant_id, trail, events)
        ahead = [(place, n) for n, place in enumerate(places) if place is not None]
        ahead = [each for each in ahead if each[0] >= trail.next]
        in_order = _longest_increasing(ahead)
        sure = len(events) - unsure
        events, trail.held = events[:sure], events[sure:]
        ahead = [(place, n) for place, n in ahead if n < sure]
        in_order = {n for n in in_order if n < sure}
        # A few that come far too early must not make all between them and here missing.
        trail.early.update(place for place, n in ahead if n not in in_order)
        end = max((places[n] or 0 for n in in_order), default=trail.next - 1) + 1
        came = {places[n] for n in in_order}
        await self._pass(tenant_id, trail, end, came)
        for n, event in enumerate(events):
            place = places[n]
            if place is None:
                stray = Stray(tenant_id, event.event_id, event.leaf_hash, None, event)
                self._strays.add_event(stray)
                continue
            ids, leaf = await self._leaves.get(tenant_id, place, 1)
            if ids not in (event.event_id, NO_ID):
                problem = f"bundle {place // BUNDLE_WIDTH} names another event for leaf {place}"
                self._tell_of_tree(tenant_id, event, place, problem)
            self._judge(event, place, leaf)
            if n not in in_order:
                trail.passed.pop(event.event_id, None)
                self._tell(out_of_order(event, place))

    async def _pass(
        self, tenant_id: str, trail: Trail, end: int, came: set[int | None] | None = None
    ) -> None:
        """Go on behind leaf `end - 1`, and note the leaves up to there that have no event yet."""
        while trail.next < end:
            count = min(end - trail.next, _AHEAD)
            ids, hashes = await self._leaves.get(tenant_id, trail.next, count)
            for n in range(count):
                leaf = trail.next + n
                if leaf in trail.early:
                    trail.early.discard(leaf)
                elif came is None or leaf not in came:
                    event_id = ids[n * ID_BYTES : (n + 1) * ID_BYTES]
                    leaf_hash = hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES]
                    if event_id in trail.passed or event_id in (b"", NO_ID):
                        event_id = leaf.to_bytes(8)  # damaged: its hash alone may tell its event
                    trail.passed[event_id] = leaf, leaf_hash
            trail.next += count
            self._spill(tenant_id, trail, most=_WAITED_FOR)

    def _spill(self, tenant_id: str, trail: Trail, *, most: int) -> None:
        """Wait no longer for the events of the first leaves, if there are so many."""
        while len(trail.passed) > most:
            event_id = next(iter(trail.passed))
            leaf, leaf_hash = trail.passed.pop(event_id)
            self._strays.add_leaf(Stray(tenant_id, event_id, leaf_hash, leaf))

    async def _places_of(
        self, tenant_id: str, trail: Trail, events: Sequence[Examined]
    ) -> list[int | None]:
        """The leaf of each event, by its id or by its hash; None if it has none."""
        start = trail.next
        ids, hashes = await self._leaves.get(tenant_id, start, len(events) + _AHEAD)
        by_id: dict[bytes, int] = {}
        by_hash: dict[bytes, int] = {}
        for n in range(len(hashes) // HASH_BYTES):
            by_id.setdefault(ids[n * ID_BYTES : (n + 1) * ID_BYTES], start + n)
            by_hash.setdefault(hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES], start + n)
        places: list[int | None] = []
        for event in events:
            place = by_id.get(event.event_id)
            if place is None and event.event_id in trail.passed:
                place = trail.passed[event.event_id][0]
            places.append(place)
        taken = set(places)
        for n, event in enumerate(events):
            if places[n] is not None:
                continue
            # A leaf whose id was altered is known by its hash; one farther off, by asking.
            place = by_hash.get(event.body_hash or event.leaf_hash)
            if place is None or place in taken:
                event_id = event_id_text(event.event_id)
                place = await self._trees.leaf_index(tenant_id, event_id)
            if place is not None and place >= start and place not in taken:
                taken.add(place)
                places[n] = place
        return places


def _longest_increasing(places: Sequence[tuple[int, int]]) -> set[int]:
    """Of (place, number), the numbers of a longest subsequence whose places increase."""
    ends: list[int] = []
    chains: list[int] = []
    before: list[int | None] = []
    for at, (place, _) in enumerate(places):
        length = bisect_left(ends, place)
        before.append(chains[length - 1] if length else None)
        if length == len(ends):
            ends.append(place)
            chains.append(at)
        else:
            ends[length] = place
            chains[length] = at
    found = set()
    at_or_none = chains[-1] if chains else None
    while at_or_none is not None:
        found.add(places[at_or_none][1])
        at_or_none = before[at_or_none]
    return found


def out_of_order(event: Examined, leaf_index: int) -> Finding:
    """That an event is not where its leaf says."""
    event_id = event_id_text(event.event_id)
    return Finding(
        kind=FindingKind.ORDER,
        tenant_id=event.tenant_id,
        message=f"event {event_id}: it stands elsewhere in the order of recording than its leaf, "
        f"{leaf_index}",
        event_id=event_id,
        leaf_index=leaf_index,
    )
