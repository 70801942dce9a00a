"""The suite that every store's trees must pass; it needs pytest and pytest-asyncio.

Subclass `TreesContract` as `TestMyTrees` and override the fixture `new_store`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest
import pytest_asyncio
from msgspec import structs

from muniment.errors import StoreError
from muniment.event_id import make_event_id
from muniment.growing import frontier_of, grow
from muniment.merkle import inclusion_proof, inclusion_ranges, root_hash, verify_inclusion
from muniment.stores.base import Sealed, Store
from muniment.stores.trees import BUNDLE_WIDTH, Growth, PendingEvent, Published, Tree
from muniment.testing.contract import NOON, sealed
from muniment.tiles import TILE_WIDTH, hashes_in, roots_from, tiles_of

_STEP = 100


async def integrate_all(store: Store, *, at_once: int = _STEP) -> int:
    """Give every pending event its leaf; returns how many there were."""
    count = 0
    while done := await store.trees.integrate(at_once, grow):
        count += done
    return count


async def published(store: Store, tenant_id: str = "acme") -> Published:
    """Publish what the tenant's tree is now, under a note that nobody signed."""
    tree = await store.trees.tree(tenant_id)
    assert tree is not None
    checkpoint = unsigned(tree)
    assert await store.trees.publish([checkpoint]) == []
    return checkpoint


def unsigned(tree: Tree) -> Published:
    """A checkpoint of the tree, as far as a store looks at it."""
    return Published(
        tenant_id=tree.tenant_id,
        tree_size=tree.tree_size,
        root_hash=frontier_of(tree).root(),
        note=f"{tree.tenant_id}\n{tree.tree_size}\n\n\u2014 nobody AAAA\n",
        previous_size=tree.published_size,
    )


async def leaves(store: Store, tenant_id: str = "acme") -> list[bytes]:
    """The leaf hashes of the tenant's tree, from its tiles."""
    tree = await store.trees.tree(tenant_id)
    size = 0 if tree is None else tree.tree_size
    wanted = [(0, index) for index in range(-(-size // TILE_WIDTH))]
    tiles = await store.trees.tiles(tenant_id, wanted)
    return [each for tile in wanted for each in hashes_in(tiles[tile])]


def _many(count: int, tenant_id: str = "acme") -> list[Sealed]:
    """Events whose bodies a store has no reason to look at."""
    found = []
    for n in range(count):
        event_id = make_event_id(NOON, hashlib.sha256(f"{tenant_id}{n}".encode()).digest()[:10])
        leaf = hashlib.sha256(event_id.encode()).digest()
        found.append(Sealed(tenant_id, event_id, b'{"n":%d}' % n, leaf, "\x1faction:a\x1f"))
    return found


@pytest.mark.asyncio
class TreesContract:
    """What `muniment.stores.trees.Trees` promises."""

    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        """Makes stores over one empty database."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def store(self, new_store: Callable[[], Store]) -> AsyncIterator[Store]:
        """An open store without events."""
        store = new_store()
        await store.open()
        yield store
        await store.close()

    # --- integrating

    async def test_leaves_are_in_the_order_of_recording(self, store: Store) -> None:
        """Each event's leaf hash stands at its place among its tenant's, in order of recording."""
        batch = [sealed(9 - n, tenant_id=("acme", "globex")[n % 2]) for n in range(10)]
        await store.append(batch[:5])
        await store.append(batch[5:])
        assert await integrate_all(store, at_once=3) == 10
        for tenant_id in ("acme", "globex"):
            wanted = [event.leaf_hash for event in batch if event.tenant_id == tenant_id]
            assert await leaves(store, tenant_id) == wanted

    async def test_a_tree_has_the_root_of_its_leaves(self, store: Store) -> None:
        """The edge gives the root over all leaf hashes, at whatever sizes the tree stopped."""
        batch = _many(TILE_WIDTH * 2 + 7)
        for start in (0, 1, 3, TILE_WIDTH - 1, TILE_WIDTH, TILE_WIDTH + 1):
            await store.append(batch[:1] if start == 0 else batch[start : start + 1])
            await integrate_all(store)
        await store.append(batch)
        await integrate_all(store)
        tree = await store.trees.tree("acme")
        assert tree is not None
        assert tree.tree_size == len(batch)
        assert frontier_of(tree).root() == root_hash(await leaves(store))

    async def test_a_proof_is_made_of_few_tiles(self, store: Store) -> None:
        """Any leaf is proved by the tiles that `tiles_of` names, no more than one of each level."""
        await store.append(_many(TILE_WIDTH * 3))
        await integrate_all(store, at_once=1_000)
        hashes = await leaves(store)
        for index in (0, 255, 256, 511, 767):
            wanted = tiles_of(inclusion_ranges(index, len(hashes)))
            tiles = await store.trees.tiles("acme", wanted)
            assert len(tiles) == len(wanted) <= 3
            proof = inclusion_proof(index, len(hashes), roots_from(tiles))
            verify_inclusion(index, len(hashes), hashes[index], proof, root_hash(hashes))

    async def test_an_event_has_a_leaf_index(self, store: Store) -> None:
        """It is the event's place in its tenant's tree; None before it has one."""
        batch = _many(TILE_WIDTH + 3)
        await store.append([sealed(1, tenant_id="globex")])
        await store.append(batch)
        assert await store.trees.leaf_index("acme", batch[0].event_id) is None
        await integrate_all(store)
        found = [await store.trees.leaf_index("acme", each.event_id) for each in batch]
        assert found == list(range(len(batch)))

    async def test_another_tenants_event_has_no_leaf_index(self, store: Store) -> None:
        """An event is looked for in its own tenant's tree only."""
        batch = [sealed(1), sealed(2, tenant_id="globex")]
        await store.append(batch)
        await integrate_all(store)
        assert await store.trees.leaf_index("globex", batch[0].event_id) is None

    async def test_bundles_hold_the_ids_of_the_leaves(self, store: Store) -> None:
        """They come in order, 256 ids each, with the position of their first event."""
        batch = _many(BUNDLE_WIDTH + 3)
        await store.append(batch)
        await integrate_all(store)
        bundles = await store.trees.bundles("acme", 0, 9)
        assert [bundle.index for bundle in bundles] == [0, 1]
        ids = b"".join(bundle.event_ids for bundle in bundles)
        assert ids.hex() == "".join(event.event_id.replace("-", "") for event in batch)
        first = await store.position_of(batch[BUNDLE_WIDTH].event_id, "acme")
        assert bundles[1].first_position == first
        assert await store.trees.bundles("acme", 1, 1) == bundles[1:]

    async def test_a_step_that_fails_leaves_nothing(self, store: Store) -> None:
        """When `grow` raises, nothing is stored, and the next step takes the same events."""
        await store.append([sealed(n) for n in range(5)])

        def fail(events: Sequence[PendingEvent], trees: Mapping[str, Tree]) -> Sequence[Growth]:
            raise StoreError(f"{len(events)} events, {len(trees)} trees")

        with pytest.raises(StoreError, match="5 events, 0 trees"):
            await store.trees.integrate(10, fail)
        assert await store.trees.tree("acme") is None
        assert await integrate_all(store) == 5

    async def test_several_at_once_give_each_event_one_leaf(
        self, store: Store, new_store: Callable[[], Store]
    ) -> None:
        """Two stores that integrate while others record: no leaf is missing, none is double."""
        other = new_store()
        await other.open()
        batch = _many(400)

        async def record() -> None:
            for start in range(0, len(batch), 40):
                await store.append(batch[start : start + 40])

        async def take(by: Store) -> None:
            for _ in range(12):
                await by.trees.integrate(30, grow)

        try:
            await asyncio.gather(record(), take(store), take(other))
            await integrate_all(other)
        finally:
            await other.close()
        hashes = await leaves(store)
        assert sorted(hashes) == sorted(event.leaf_hash for event in batch)

    async def test_integrated_to_is_the_position_of_the_last_leaf(self, store: Store) -> None:
        """What is recorded behind it has no leaf yet."""
        batch = [sealed(n) for n in range(3)]
        await store.append(batch)
        await integrate_all(store)
        assert await store.trees.integrated_to() == await store.position_of(
            batch[-1].event_id, "acme"
        )

    async def test_lag_is_the_age_of_the_oldest_event_without_a_leaf(self, store: Store) -> None:
        """It is zero once every event has its leaf."""
        assert (await store.trees.lag()).seconds == 0
        await store.append([sealed(1)])  # recorded in March 2026
        assert (await store.trees.lag()).seconds > 3600
        await integrate_all(store)
        assert (await store.trees.lag()).seconds == 0

    # --- publishing

    async def test_what_has_grown_is_unpublished(self, store: Store) -> None:
        """A tree is listed until it has a checkpoint of its size, and again once it grows."""
        await store.append([sealed(1), sealed(2, tenant_id="globex")])
        await integrate_all(store)
        assert [tree.tenant_id for tree in await store.trees.unpublished(9)] == ["acme", "globex"]
        await published(store, "acme")
        assert [tree.tenant_id for tree in await store.trees.unpublished(9)] == ["globex"]
        await store.append([sealed(3)])
        await integrate_all(store)
        grown = (await store.trees.unpublished(9))[0]
        assert (grown.tree_size, grown.published_size) == (2, 1)

    async def test_a_checkpoint_is_compared_and_swapped(self, store: Store) -> None:
        """One that was made before another was kept is refused; the other tenants' are kept."""
        await store.append([sealed(1), sealed(2, tenant_id="globex")])
        await integrate_all(store)
        acme, globex = await store.trees.unpublished(9)
        assert await store.trees.publish([unsigned(acme)]) == []
        assert await store.trees.publish([unsigned(acme), unsigned(globex)]) == ["acme"]
        assert await store.trees.checkpoint("globex") is not None
        assert len(await store.trees.checkpoints("acme", 0, 9)) == 1

    async def test_a_checkpoint_is_no_larger_than_its_tree(self, store: Store) -> None:
        """What no tree has become is not published."""
        await store.append([sealed(1)])
        await integrate_all(store)
        (tree,) = await store.trees.unpublished(9)
        checkpoint = unsigned(tree)
        larger = Published(
            tenant_id="acme",
            tree_size=2,
            root_hash=checkpoint.root_hash,
            note=checkpoint.note,
        )
        assert await store.trees.publish([larger]) == ["acme"]
        assert await store.trees.checkpoint("acme") is None

    async def test_a_checkpoint_has_the_root_of_its_tree(self, store: Store) -> None:
        """One of the tree's size over another root is refused, and the tree stays unpublished."""
        await store.append([sealed(1), sealed(2), sealed(3), sealed(4, tenant_id="globex")])
        await integrate_all(store)
        acme, globex = await store.trees.unpublished(9)
        forged = Published(
            tenant_id="acme", tree_size=3, root_hash=bytes(32), note=unsigned(acme).note
        )
        assert await store.trees.publish([forged, unsigned(globex)]) == ["acme"]
        assert await store.trees.checkpoint("acme") is None
        assert await store.trees.unpublished(9) == [acme]

    async def test_several_checkpoints_of_one_tenant_are_kept(self, store: Store) -> None:
        """An older one may come late, and the next one with it; that one is the newest."""
        await store.append([sealed(1)])
        await integrate_all(store)
        (older,) = await store.trees.unpublished(9)
        await store.append([sealed(2)])
        await integrate_all(store)
        (newer,) = await store.trees.unpublished(9)
        next_one = structs.replace(unsigned(newer), previous_size=1)
        assert await store.trees.publish([unsigned(older), next_one]) == []
        assert await store.trees.checkpoint("acme") == next_one
        assert await store.trees.unpublished(9) == []

    async def test_all_checkpoints_are_kept(self, store: Store) -> None:
        """They are listed from the smallest, and found by their size; without one, the newest."""
        kept = []
        for n in range(4):
            await store.append([sealed(n)])
            await integrate_all(store)
            kept.append(await published(store))
        listed = await store.trees.checkpoints("acme", 1, 2)
        assert listed == kept[1:3]
        assert await store.trees.checkpoint("acme") == kept[3]
        assert await store.trees.checkpoint("acme", 2) == kept[1]
        assert await store.trees.checkpoint("acme", 9) is None

    async def test_signatures_are_added_once(self, store: Store) -> None:
        """A line goes to the end of the note; one that it has already is left out."""
        await store.append([sealed(1)])
        await integrate_all(store)
        before = await published(store)
        await store.trees.add_signatures("acme", 1, "\u2014 w1 AAAA\n\u2014 w2 BBBB\n")
        await store.trees.add_signatures("acme", 1, "\u2014 w2 BBBB\n")
        after = await store.trees.checkpoint("acme")
        assert after is not None
        assert after.note == before.note + "\u2014 w1 AAAA\n\u2014 w2 BBBB\n"

    async def test_only_a_newline_ends_a_signature_line(self, store: Store) -> None:
        """A name may hold what other text takes for the end of a line."""
        await store.append([sealed(1)])
        await integrate_all(store)
        before = await published(store)
        line = "\u2014 w\u20281\x0b2\x85 AAAA\n"
        await store.trees.add_signatures("acme", 1, line)
        await store.trees.add_signatures("acme", 1, line)
        after = await store.trees.checkpoint("acme")
        assert after is not None
        assert after.note == before.note + line

    async def test_what_is_not_anchored_is_listed(self, store: Store) -> None:
        """The newest checkpoint of each tenant is, until it is marked."""
        await store.append([sealed(1)])
        await integrate_all(store)
        assert await store.trees.unanchored(9) == []
        await published(store)
        (listed,) = await store.trees.unanchored(9)
        assert (listed.tenant_id, listed.tree_size) == ("acme", 1)
        await store.trees.mark_anchored([("acme", 1)])
        assert await store.trees.unanchored(9) == []

    # --- looking

    async def test_trees_are_listed_in_order_of_tenant(self, store: Store) -> None:
        """A page goes on behind the tenant that the last one ended with, by UTF-8 bytes."""
        tenants = ["Zeta", "acme", "\u00e9clair", "\U0001f600", "\uffee"]
        await store.append([sealed(1, tenant_id=tenant) for tenant in reversed(tenants)])
        await integrate_all(store)
        ordered = sorted(tenants, key=str.encode)
        first = await store.trees.trees(None, 2)
        rest = await store.trees.trees(first[-1].tenant_id, 9)
        assert [tree.tenant_id for tree in first + rest] == ordered

    async def test_rows_are_counted(self, store: Store) -> None:
        """Tiles of all levels, bundles and checkpoints of one tenant."""
        await store.append(_many(TILE_WIDTH + 1))
        await store.append([sealed(1, tenant_id="globex")])
        await integrate_all(store)
        await published(store)
        counts = await store.trees.row_counts("acme")
        assert (counts.tiles, counts.bundles, counts.checkpoints) == (3, 2, 1)

    async def test_an_unknown_tenant_has_nothing(self, store: Store) -> None:
        """There is no tree, no checkpoint and no tile of a tenant that recorded nothing."""
        assert await store.trees.tree("nobody") is None
        assert await store.trees.checkpoint("nobody") is None
        assert await store.trees.tiles("nobody", [(0, 0)]) == {}
        assert await store.trees.bundles("nobody", 0, 9) == []
