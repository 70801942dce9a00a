"""The suite that every store must pass; it needs pytest and pytest-asyncio.

Subclass `StoreContract` as `TestMyStore` and override the fixture `new_store`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from muniment.errors import EventRefused
from muniment.event import Actor, Target
from muniment.event_id import lowest_id_at
from muniment.merkle import leaf_hash
from muniment.query import Clause
from muniment.sealing import Sealer
from muniment.stores.base import Sealed, Selection, Sequenced, Store, StoredEvent

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
_BATCH = 7


def sealed(n: int, **fields: Any) -> Sealed:
    """An event of `n` seconds past noon; `fields` are those of `record`."""
    given = {
        "tenant_id": "acme",
        "occurred_at": NOON + timedelta(seconds=n),
        "actor": Actor.user(f"u{n % 3}"),
        "details": {"n": n},
        **fields,
    }
    action = given.pop("action", "login")
    return Sealer(clock=lambda: NOON + timedelta(hours=1)).seal_call(action, given)


def keyed(key: str, n: int, tenant_id: str = "acme") -> Sealed:
    """An event with an idempotency key that came without a time, sealed at `n` past noon."""
    sealer = Sealer(clock=lambda: NOON + timedelta(seconds=n))
    return sealer.seal_call("login", {"tenant_id": tenant_id, "idempotency_key": key})


def ids(events: Sequence[Sealed | StoredEvent | Sequenced]) -> list[str]:
    """Their event_ids, in order."""
    return [e.stored.event_id if isinstance(e, Sequenced) else e.event_id for e in events]


async def index_all(store: Store) -> None:
    """Bring the index up to what is recorded."""
    while await store.index_pending(3):
        pass


@pytest.mark.asyncio
class StoreContract:
    """What a store must do, whatever it is made of."""

    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        """Makes stores over one and the same empty database, with the schema in place or not."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def store(self, new_store: Callable[[], Store]) -> AsyncIterator[Store]:
        """An open store."""
        store = new_store()
        await store.upgrade()
        await store.open()
        yield store
        await store.close()

    @pytest_asyncio.fixture(params=["indexed", "not indexed"])
    async def filled(
        self, store: Store, request: pytest.FixtureRequest
    ) -> AsyncIterator[tuple[Store, list[Sealed]]]:
        """A store with nine events of two tenants, from the oldest to the newest."""
        events = [
            sealed(
                n,
                tenant_id="acme" if n % 3 else "globex",
                action="role_assign" if n % 2 else "login",
                targets=[Target("user", f"u{n}")],
            )
            for n in range(9)
        ]
        await store.append(events)
        if request.param == "indexed":
            await index_all(store)
        yield store, events

    # --- appending

    async def test_an_appended_event_is_found_as_it_was(self, store: Store) -> None:
        """The body comes back byte for byte, whatever characters are in it, with its leaf hash."""
        event = sealed(1, details={"text": 'Zoë\u0000 \x7f "🜁" \u2028 \ufeff', "n": 1.5e300})
        await store.append([event])
        found = await store.get(event.event_id, "acme")
        assert found is not None
        assert found.body is not None
        assert (found.tenant_id, found.event_id) == ("acme", event.event_id)
        assert (found.body.encode(), found.leaf_hash) == (event.body, event.leaf_hash)
        assert leaf_hash(found.body.encode()) == found.leaf_hash

    async def test_events_are_got_by_many_ids(self, store: Store) -> None:
        """Those that are there and of that tenant come, in whatever order."""
        batch = [sealed(n, tenant_id=("acme", "globex")[n % 2]) for n in range(6)]
        await store.append(batch)
        wanted = [*ids(batch), sealed(9).event_id]
        found = await store.get_many(wanted, "acme")
        assert sorted(ids(found)) == sorted(ids(batch[::2]))
        assert {event.body for event in found} == {event.body.decode() for event in batch[::2]}
        assert await store.get_many([], "acme") == []

    async def test_an_empty_batch_is_no_error(self, store: Store) -> None:
        """Nothing to store is nothing to complain about."""
        assert await store.append([]) == {}

    async def test_all_of_a_batch_are_new(self, store: Store) -> None:
        """An empty answer says that every event was stored."""
        assert await store.append([sealed(n) for n in range(_BATCH)]) == {}

    async def test_what_is_stored_is_told_and_kept(self, store: Store) -> None:
        """A repeated event is left out, and the first one returned in its place."""
        first = sealed(1)
        other = msgspec.structs.replace(first, body=b'{"other":1}', leaf_hash=bytes(32))
        await store.append([first])
        already = await store.append([sealed(2), other, sealed(3)])
        assert list(already) == [1]
        assert already[1].leaf_hash == first.leaf_hash
        assert len(await store.read(None, 10)) == 3

    async def test_a_batch_may_repeat_itself(self, store: Store) -> None:
        """The first of an id within a batch is stored, the others are told of it."""
        event = sealed(1)
        already = await store.append([event, sealed(2), event])
        assert {n: e.event_id for n, e in already.items()} == {2: event.event_id}

    async def test_tenants_do_not_share_ids(self, store: Store) -> None:
        """The same event_id in two tenants is two events."""
        event = sealed(1)
        other = msgspec.structs.replace(event, tenant_id="globex")
        assert await store.append([event, other]) == {}
        assert await store.get(event.event_id, "globex") is not None

    async def test_a_batch_is_stored_whole_or_not_at_all(self, store: Store) -> None:
        """One event that can't be stored takes its batch with it, and is named as at fault."""
        broken = msgspec.structs.replace(sealed(2), leaf_hash=b"short")
        with pytest.raises(EventRefused):
            await store.append([sealed(1), broken, sealed(3)])
        assert await store.read(None, 10) == []

    async def test_stores_over_one_database_share_ids(
        self, store: Store, new_store: Callable[[], Store]
    ) -> None:
        """Whoever comes second with an id is told of the first, however close they come."""
        other = new_store()
        await other.open()
        try:
            batch = [sealed(n) for n in range(200)]
            answers = await asyncio.gather(store.append(batch), other.append(batch[::-1]))
        finally:
            await other.close()
        assert sum(len(answer) for answer in answers) == len(batch)
        assert len(await store.read(None, 1000)) == len(batch)

    # --- idempotency keys without a time

    async def test_a_key_leads_to_its_first_event(self, store: Store) -> None:
        """The same key at another time is the same event; the first one is returned."""
        first, again = keyed("k1", 1), keyed("k1", 60)
        assert first.event_id != again.event_id
        assert await store.append([first]) == {}
        already = await store.append([sealed(5), again])
        assert {n: e.event_id for n, e in already.items()} == {1: first.event_id}
        assert len(await store.read(None, 10)) == 2

    async def test_a_key_may_repeat_within_a_batch(self, store: Store) -> None:
        """Two tries that come together are one event."""
        first, again = keyed("k1", 1), keyed("k1", 2)
        already = await store.append([first, again])
        assert {n: e.event_id for n, e in already.items()} == {1: first.event_id}

    async def test_a_key_may_come_back_months_later(self, store: Store) -> None:
        """A key holds across the bounds of months, by which a store may be divided."""
        first, again = keyed("k1", 1), keyed("k1", -86_400 * 40)
        await store.append([first])
        assert (await store.append([again]))[0].event_id == first.event_id

    async def test_tenants_do_not_share_keys(self, store: Store) -> None:
        """The same key in two tenants is two events."""
        assert await store.append([keyed("k1", 1), keyed("k1", 2, "globex")]) == {}

    # --- getting

    async def test_another_tenants_event_is_not_found(
        self, filled: tuple[Store, list[Sealed]]
    ) -> None:
        """An id alone does not open another tenant's event."""
        store, events = filled
        assert await store.get(events[0].event_id, "acme") is None

    async def test_an_event_is_found_without_its_tenant(
        self, filled: tuple[Store, list[Sealed]]
    ) -> None:
        """Whoever may see all tenants needs the id only."""
        store, events = filled
        found = await store.get(events[0].event_id, None)
        assert found is not None
        assert found.tenant_id == "globex"

    async def test_an_unknown_event_is_not_found(self, filled: tuple[Store, list[Sealed]]) -> None:
        """There is nothing under an id that was never given."""
        store, _ = filled
        assert await store.get(sealed(1).event_id, None) is None

    # --- selecting

    async def test_newest_first(self, filled: tuple[Store, list[Sealed]]) -> None:
        """All tenants' events come in order of event_id, the newest first."""
        store, events = filled
        assert ids(await store.select(Selection(tenant_id=None))) == ids(events)[::-1]

    async def test_oldest_first_in_a_tenant(self, filled: tuple[Store, list[Sealed]]) -> None:
        """One tenant's events, the oldest first."""
        store, events = filled
        found = await store.select(Selection(tenant_id="acme", order="oldest"))
        assert ids(found) == ids([e for e in events if e.tenant_id == "acme"])

    async def test_bounds_and_limit(self, filled: tuple[Store, list[Sealed]]) -> None:
        """`since_id` is in, `until_id` is out, and no more than `limit` come."""
        store, events = filled
        wanted = Selection(
            tenant_id=None,
            since_id=lowest_id_at(NOON + timedelta(seconds=2)),
            until_id=lowest_id_at(NOON + timedelta(seconds=7)),
            order="oldest",
            limit=4,
        )
        assert ids(await store.select(wanted)) == ids(events)[2:6]

    async def test_going_on_behind_an_event(self, filled: tuple[Store, list[Sealed]]) -> None:
        """`after` begins behind an event, in either order."""
        store, events = filled
        place = (bytes.fromhex(events[4].event_id.replace("-", "")), events[4].tenant_id)
        newest = await store.select(Selection(tenant_id=None, after=place))
        oldest = await store.select(Selection(tenant_id=None, after=place, order="oldest"))
        assert (ids(newest), ids(oldest)) == (ids(events)[3::-1], ids(events)[5:])

    async def test_clauses(self, filled: tuple[Store, list[Sealed]]) -> None:
        """An event has one of the terms of each clause."""
        store, events = filled
        wanted = Selection(
            tenant_id=None,
            clauses=(
                Clause("action", ("action:login", "action:role_assign")),
                Clause("actor", ("actor:u1", "actor:u2")),
                Clause("outcome", ("outcome:unknown",)),
            ),
            order="oldest",
        )
        chosen = [e for n, e in enumerate(events) if n % 3 in {1, 2}]
        assert ids(await store.select(wanted)) == ids(chosen)

    @pytest.mark.parametrize(("tenant_id", "thirds"), [("acme", {2}), (None, {0, 2})])
    async def test_what_is_not_asked_for(
        self, filled: tuple[Store, list[Sealed]], tenant_id: str | None, thirds: set[int]
    ) -> None:
        """An event that has one of the terms in `without` is left out, whatever else it has."""
        chosen = [e for n, e in enumerate(filled[1]) if n % 3 in thirds]
        without = ("actor:u1", "actor:u")
        for clauses in ((), (Clause("outcome", ("outcome:unknown",)),)):
            wanted = Selection(tenant_id=tenant_id, clauses=clauses, without=without)
            assert ids(await filled[0].select(wanted)) == ids(chosen)[::-1]

    async def test_a_term_that_nothing_has(self, filled: tuple[Store, list[Sealed]]) -> None:
        """A term is whole: the beginning of one finds nothing."""
        store, _ = filled
        wanted = Selection(tenant_id="acme", clauses=(Clause("actor", ("actor:u",)),))
        assert await store.select(wanted) == []

    async def test_text(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Text is found anywhere in the body, whatever its case; % and _ mean themselves."""
        store, events = filled
        found = await store.select(Selection(tenant_id="acme", text='"n":7'))
        assert ids(found) == [events[7].event_id]
        assert await store.select(Selection(tenant_id="acme", text="%")) == []

    @pytest.mark.parametrize("order", ["newest", "oldest"])
    @pytest.mark.parametrize("tenant_id", [None, "acme"])
    async def test_looking_at_a_few_at_a_time(
        self, filled: tuple[Store, list[Sealed]], tenant_id: str | None, order: Any
    ) -> None:
        """Up to one `reach` after the other, a selection holds what it does without, in order."""
        store, _ = filled
        acted = Clause("actor", ("actor:u1", "actor:u2"))
        did = Clause("action", ("action:login", "action:gone"))
        for clauses in ((), (did,), (acted,), (acted, did)):
            wanted = Selection(tenant_id=tenant_id, clauses=clauses, order=order, text='"user"')
            found, part = [], wanted
            while (upto := await store.reach(part, 2)) is not None:
                assert part.after is None or (part.after < upto) == (order == "oldest")
                found += await store.select(msgspec.structs.replace(part, upto=upto))
                part = msgspec.structs.replace(part, after=upto)
            found += await store.select(part)
            assert ids(found) == ids(await store.select(wanted))

    @pytest.mark.parametrize("tenant_id", [None, "acme"])
    async def test_a_reach_is_as_far_as_asked(
        self, filled: tuple[Store, list[Sealed]], tenant_id: str | None
    ) -> None:
        """Up to the place there are so many events, and none is the end where there are fewer."""
        store, _ = filled
        wanted = Selection(tenant_id=tenant_id)
        upto = await store.reach(wanted, 4)
        assert len(await store.select(msgspec.structs.replace(wanted, upto=upto))) == 4
        assert await store.reach(wanted, 10) is None

    async def test_the_actions_that_were_recorded(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Each action once, of one tenant or of all."""
        store, _ = filled
        assert await store.actions(None) == ["login", "role_assign"]
        assert await store.actions("nobody") == []

    # --- in order of recording

    async def test_read_in_order_of_recording(self, store: Store) -> None:
        """Late events come when they were recorded, not when they occurred."""
        batches = [[sealed(9), sealed(8)], [sealed(1)], [sealed(5), sealed(7), sealed(6)]]
        for batch in batches:
            await store.append(batch)
        assert ids(await store.read(None, 10)) == ids([e for batch in batches for e in batch])

    async def test_read_in_pieces(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Going on behind a position neither skips nor repeats."""
        store, events = filled
        found: list[Sequenced] = []
        while piece := await store.read(found[-1].position if found else None, 2):
            found += piece
        assert ids(found) == ids(events)

    async def test_a_long_order_of_recording(self, store: Store) -> None:
        """The order holds over many batches, whatever their number looks like in text."""
        events = [sealed(-n) for n in range(150)]
        for event in events:
            await store.append([event])
        found: list[Sequenced] = []
        while piece := await store.read(found[-1].position if found else None, 40):
            found += piece
        assert ids(found) == ids(events)

    async def test_read_one_tenant(self, filled: tuple[Store, list[Sealed]]) -> None:
        """One tenant's events, in order of recording."""
        store, events = filled
        found = await store.read(None, 10, "globex")
        assert ids(found) == ids([e for e in events if e.tenant_id == "globex"])

    async def test_the_position_of_an_event(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Behind an event's position stands what was recorded after it."""
        store, events = filled
        position = await store.position_of(events[3].event_id, None)
        assert ids(await store.read(position, 10)) == ids(events)[4:]

    async def test_the_last_position(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Behind the last position only what is recorded from now on comes."""
        store, _ = filled
        last = await store.last_position()
        assert await store.read(last, 10) == []
        late = sealed(-500)
        await store.append([late])
        assert ids(await store.read(last, 10)) == [late.event_id]

    # --- the rest

    async def test_indexing_comes_to_an_end(self, store: Store) -> None:
        """Indexing goes in steps, says 0 when there is nothing left, and may be asked again."""
        for n in range(4):
            await store.append([sealed(n)])
        steps = []
        while step := await store.index_pending(2):
            steps.append(step)
        assert (sum(steps), await store.index_pending(2)) == (4, 0)
        assert (await store.stats())["not_indexed"] == 0

    async def test_the_schema_is_current(self, store: Store) -> None:
        """Migrating again changes nothing."""
        assert (await store.upgrade()).is_current
        assert (await store.schema_status()).is_current

    async def test_a_store_may_be_closed_twice(self, new_store: Callable[[], Store]) -> None:
        """Closing is safe at any time, even if the store was never opened."""
        store = new_store()
        await store.close()
        await store.close()
