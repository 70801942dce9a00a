"""fsck tells what was removed, slipped in and swapped, without follow-ups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from muniment.fsck import Finding, FindingKind
from muniment.fsck.examining import Examined
from muniment.fsck.matching import Matcher, Stray, Strays, Trail
from muniment.merkle import leaf_hash
from muniment.stores.trees import BUNDLE_WIDTH, Bundle
from muniment.tiles import Tile


class _Leaves:
    """The leaves of one tenant, as a store would give them."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.events = {number: _event(number) for number in numbers}

    async def bundles(self, _tenant_id: str, first: int, count: int) -> list[Bundle]:
        found = []
        for index in range(first, first + count):
            part = list(self.events.values())[index * BUNDLE_WIDTH : (index + 1) * BUNDLE_WIDTH]
            if part:
                ids = b"".join(event.event_id for event in part)
                found.append(Bundle(index=index, first_position=part[0].position, event_ids=ids))
        return found

    async def tiles(self, _tenant_id: str, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        everyone = list(self.events.values())
        found = {}
        for level, index in wanted:
            part = everyone[index * BUNDLE_WIDTH : (index + 1) * BUNDLE_WIDTH]
            if part:
                found[level, index] = b"".join(event.leaf_hash for event in part)
        return found

    async def leaf_index(self, _tenant_id: str, event_id: str) -> int | None:
        number = int.from_bytes(UUID(event_id).bytes, "big")
        return list(self.events).index(number) if number in self.events else None


def _event(number: int) -> Examined:
    event_id = number.to_bytes(16, "big")
    leaf = leaf_hash(event_id)
    return Examined(str(number), "acme", event_id, leaf, leaf)


async def _matched(
    leaves: Sequence[int], events: Sequence[int], page: int
) -> tuple[set[int], set[int], set[int]]:
    """The numbers of the leaves without an event, the events without a leaf, and the displaced."""
    told: list[Finding] = []
    strays = Strays()
    trails: dict[str, Trail] = {}
    matcher = Matcher(_Leaves(leaves), trails, strays, told.append)  # type: ignore[arg-type]
    for start in range(0, len(events), page):
        await matcher.take("acme", [_event(number) for number in events[start : start + page]])
    await matcher.finish("acme", len(leaves))
    displaced = [f for f in told if f.kind is FindingKind.ORDER]
    # A bundle gives the position of its first event; here a position is a number.
    assert all(f.kind in {FindingKind.ORDER, FindingKind.TREE} for f in told)
    ids = [UUID(f.event_id or "").int for f in displaced]
    assert len(set(ids)) == len(ids)

    def numbers(strays: Sequence[Stray]) -> set[int]:
        found = [int.from_bytes(stray.event_id, "big") for stray in strays]
        assert len(set(found)) == len(found)
        return set(found)

    return numbers(strays.leaves), numbers(strays.events), set(ids)


@given(data=st.data())
async def test_what_was_removed_and_slipped_in_is_found_and_nothing_else(
    data: st.DataObject,
) -> None:
    """However much it is, wherever it stands, and however events come in pages."""
    count = data.draw(st.integers(1, 700))
    page = data.draw(st.sampled_from([1, 3, 64, 200, 1000]))
    leaves = range(1, count + 1)
    starts = data.draw(st.lists(st.tuples(st.integers(1, count), st.integers(1, 90)), max_size=4))
    gone = {n for start, length in starts for n in range(start, start + length)} & set(leaves)
    events = [n for n in leaves if n not in gone]
    forged = data.draw(st.lists(st.integers(0, len(events)), max_size=90))
    for n, place in enumerate(forged):
        events.insert(place, 100_000 + n)
    missing, extra, displaced = await _matched(leaves, events, page)
    assert missing == gone
    assert extra == {100_000 + n for n in range(len(forged))}
    assert displaced == set()


@given(data=st.data())
async def test_two_that_were_swapped_are_found_and_nothing_else(data: st.DataObject) -> None:
    """However far they are apart."""
    count = data.draw(st.integers(4, 3000))
    one, other = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=2, max_size=2)))
    page = data.draw(st.sampled_from([1, 7, 64, 500]))
    events = list(range(1, count + 1))
    events[one], events[other] = events[other], events[one]
    missing, extra, displaced = await _matched(range(1, count + 1), events, page)
    assert (missing, extra) == (set(), set())
    if other - one > 2:
        assert displaced == {one + 1, other + 1}
    else:
        # Of two or three in the wrong order, it can't be told which are out of place.
        assert displaced


async def test_a_large_part_that_is_gone_has_no_follow_ups() -> None:
    """Behind it events are leaves again."""
    leaves = range(1, 20_001)
    events = [n for n in leaves if not 5_000 <= n < 15_000]
    missing, extra, displaced = await _matched(leaves, events, 500)
    assert missing == set(range(5_000, 15_000))
    assert (extra, displaced) == (set(), set())
