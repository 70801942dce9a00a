"""The suite that every store's counts must pass; it needs pytest and pytest-asyncio.

Subclass `CountsContract` as `TestMyCounts` and override the fixture `new_store`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Final

import msgspec
import pytest
import pytest_asyncio

from muniment.event_id import microseconds
from muniment.stores.base import Sealed, Selection, Store
from muniment.stores.counts import DAY, HOUR, Bars, Width
from muniment.testing.contract import NOON, index_all, sealed

_NOON: Final = microseconds(NOON) // 1000
_MIDNIGHT: Final = _NOON - DAY // 2
_HOUR: Final = 3600
"""In seconds."""


async def count_all(store: Store, *, at_once: int = 4) -> int:
    """Bring the counts up to what is recorded; returns how many events were counted."""
    counted = 0
    while done := await store.counts.count_pending(at_once):
        counted += done
    return counted


async def cells(
    store: Store,
    tenant_id: str | None = "acme",
    *,
    since: int = _MIDNIGHT - DAY,
    until: int = _MIDNIGHT + 2 * DAY,
    width: Width = HOUR,
    bars: Bars | None = None,
) -> dict[tuple[int, str, str], int]:
    """The cells by (hours from noon, action, outcome); by default of three days, hour by hour."""
    found: Counter[tuple[int, str, str]] = Counter()
    given = await store.counts.cells(tenant_id, since, until, width, bars or Bars(since, width))
    for cell in given:
        assert (cell.start - _NOON) % HOUR == 0
        found[(cell.start - _NOON) // HOUR, cell.action, cell.outcome] += cell.events
    return dict(found)


def _some() -> list[Sealed]:
    """Twelve events of two tenants, one every 20 minutes from noon on."""
    return [
        sealed(
            n * _HOUR // 3,
            tenant_id="acme" if n % 2 else "globex",
            action=("login", "role_assign")[n % 4 // 2],
            outcome="denied" if n == 7 else "success",
        )
        for n in range(12)
    ]


_OF_ACME: Final = {
    (0, "login", "success"): 1,
    (1, "login", "success"): 1,
    (1, "role_assign", "success"): 1,
    (2, "role_assign", "denied"): 1,
    (3, "login", "success"): 1,
    (3, "role_assign", "success"): 1,
}


@pytest.mark.asyncio
class CountsContract:
    """What `muniment.stores.counts.Counts` promises, and `Store.facts`."""

    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        """Makes stores over one and the same database, empty but for its schema."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def store(self, new_store: Callable[[], Store]) -> AsyncIterator[Store]:
        """An open store."""
        store = new_store()
        await store.open()
        yield store
        await store.close()

    @pytest_asyncio.fixture(params=["counted", "half counted", "not counted"])
    async def filled(
        self, store: Store, request: pytest.FixtureRequest
    ) -> AsyncIterator[tuple[Store, list[Sealed]]]:
        """A store with twelve events, and the events."""
        events = _some()
        await store.append(events[:6])
        if request.param == "half counted":
            await count_all(store)
        await store.append(events[6:])
        if request.param == "counted":
            await count_all(store)
        yield store, events

    # --- cells

    async def test_an_empty_store_has_no_cells(self, store: Store) -> None:
        """And nothing to count."""
        assert await store.counts.count_pending(10) == 0
        assert await cells(store) == {}
        assert await cells(store, None, width=DAY) == {}

    async def test_cells_are_whole(self, filled: tuple[Store, list[Sealed]]) -> None:
        """However far counting has come, every event of the tenant is in its cell."""
        assert await cells(filled[0]) == _OF_ACME

    async def test_days_are_counted_too(self, filled: tuple[Store, list[Sealed]]) -> None:
        """A cell of a day has what its hours have."""
        assert await cells(filled[0], width=DAY) == {
            (-12, "login", "success"): 3,
            (-12, "role_assign", "success"): 2,
            (-12, "role_assign", "denied"): 1,
        }

    async def test_all_tenants_together(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Without a tenant, everybody's events are counted."""
        store, events = filled
        together = Counter(await cells(store, "globex"))
        together.update(await cells(store, "acme"))
        for width in (HOUR, DAY):
            found = await cells(store, None, width=width)
            assert sum(found.values()) == len(events)
        assert await cells(store, None) == dict(together)

    async def test_a_cell_begins_within_the_bounds(
        self, filled: tuple[Store, list[Sealed]]
    ) -> None:
        """From `since` on, and before `until`."""
        found = await cells(filled[0], since=_NOON + HOUR, until=_NOON + 3 * HOUR)
        assert found == {key: n for key, n in _OF_ACME.items() if 1 <= key[0] < 3}

    async def test_cells_are_added_up_for_bars(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Those within a bar come as one, starting where it does."""
        bars = Bars(_NOON - HOUR, 3 * HOUR)
        found = await cells(filled[0], bars=bars, since=_NOON - HOUR)
        assert found == {
            (-1, "login", "success"): 2,
            (-1, "role_assign", "success"): 1,
            (2, "login", "success"): 1,
            (2, "role_assign", "success"): 1,
            (2, "role_assign", "denied"): 1,
        }

    async def test_a_tenant_without_events_has_no_cells(
        self, filled: tuple[Store, list[Sealed]]
    ) -> None:
        """Nor has one whose name is a part of another's, or empty."""
        for tenant_id in ("acm", "ACME", "acme "):
            assert await cells(filled[0], tenant_id) == {}

    # --- by tenant

    @pytest.mark.parametrize("width", [HOUR, DAY])
    async def test_each_tenants_counts(
        self, filled: tuple[Store, list[Sealed]], width: Width
    ) -> None:
        """Whole, however far counting has come, and those of all tenants together are none."""
        found: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        counts = filled[0].counts
        for cell in await counts.by_tenant(_MIDNIGHT - DAY, _MIDNIGHT + 2 * DAY, width):
            found[cell.tenant_id][cell.action, cell.outcome] += cell.events
        expected: dict[str, Counter[tuple[str, str]]] = {}
        for tenant_id in ("acme", "globex"):
            kinds = expected[tenant_id] = Counter()
            for (_, action, outcome), events in (await cells(filled[0], tenant_id)).items():
                kinds[action, outcome] += events
        assert found == expected

    async def test_each_tenants_counts_are_of_a_time(
        self, filled: tuple[Store, list[Sealed]]
    ) -> None:
        """From `since` on, and before `until`."""
        found = await filled[0].counts.by_tenant(_NOON + HOUR, _NOON + 2 * HOUR, HOUR)
        assert sum(cell.events for cell in found) == 3

    async def test_the_tenants(self, store: Store) -> None:
        """Those that something was counted of, in their order, and no more than asked for."""
        assert await store.counts.tenants(9) == []
        await store.append([sealed(n, tenant_id=f"t{n % 4}") for n in range(8)])
        await count_all(store)
        assert await store.counts.tenants(9) == ["t0", "t1", "t2", "t3"]
        assert await store.counts.tenants(2) == ["t0", "t1"]

    # --- counting

    async def test_each_event_is_counted_once(self, store: Store) -> None:
        """Step by step, and not again when there is nothing to do."""
        await store.append(_some())
        assert await count_all(store) == 12
        assert await count_all(store) == 0
        assert await cells(store) == _OF_ACME

    async def test_what_comes_late_is_added(self, store: Store) -> None:
        """An event of a time that was counted already is counted with the others."""
        await store.append(_some())
        await count_all(store)
        await store.append([sealed(n, outcome="success") for n in (30, -30 * _HOUR)])
        await count_all(store)
        found = await cells(store)
        assert (found[0, "login", "success"], found[-30, "login", "success"]) == (2, 1)

    async def test_a_long_batch_is_counted(self, store: Store) -> None:
        """One that has more cells than a statement takes values."""
        events = [sealed(-n * _HOUR, action=f"a{n % 7}") for n in range(3000)]
        await store.append(events)
        assert await count_all(store, at_once=5000) == 3000
        found = await cells(store, None, since=_NOON - 3000 * HOUR)
        assert sum(found.values()) == 3000

    async def test_counters_at_once_count_once(self, new_store: Callable[[], Store]) -> None:
        """Several processes that count, while others record, count each event exactly once."""
        stores = [new_store() for _ in range(4)]
        for store in stores:
            await store.open()
        events = [
            sealed(n, tenant_id=f"t{n % 3}", details={"n": n}, action=f"a{n % 2}")
            for n in range(300)
        ]

        async def record(store: Store, mine: list[Sealed]) -> int:
            for n in range(0, len(mine), 5):
                await store.append(mine[n : n + 5])
            return 0

        async def counting(store: Store) -> int:
            counted = 0
            for _ in range(40):
                counted += await store.counts.count_pending(7)
                found = await cells(store, None)
                later = await cells(store, None)
                assert sum(found.values()) <= sum(later.values())
            return counted

        counted = await asyncio.gather(
            record(stores[0], events[::2]),
            record(stores[1], events[1::2]),
            *(counting(store) for store in stores),
        )
        rest = await count_all(stores[0])
        found = await cells(stores[0], None, width=DAY)
        for store in stores:
            await store.close()
        assert sum(counted) + rest == 300
        assert found == {(-12, "a0", "unknown"): 150, (-12, "a1", "unknown"): 150}

    async def test_counts_are_made_again(self, filled: tuple[Store, list[Sealed]]) -> None:
        """Thrown away they are still whole, and the same once they are made again."""
        store, events = filled
        await store.counts.forget()
        assert await cells(store) == _OF_ACME
        assert await count_all(store) == len(events)
        assert await cells(store) == _OF_ACME
        assert sum((await cells(store, None, width=DAY)).values()) == len(events)

    async def test_terms_of_somebody_else_stop_nobody(self, store: Store) -> None:
        """An event with terms that were not written by us is counted too, as whatever it is."""
        odd = [
            msgspec.structs.replace(sealed(n), terms=terms)
            for n, terms in enumerate(["", "odd", "\x1f", "\x1faction:" + "long" * 2000 + "\x1f"])
        ]
        await store.append([*odd, sealed(9)])
        before = sum((await cells(store)).values())
        await count_all(store)
        assert (before, sum((await cells(store)).values())) == (5, 5)

    # --- facts

    @pytest.mark.parametrize("order", ["newest", "oldest"])
    @pytest.mark.parametrize("tenant_id", ["acme", None])
    async def test_facts_are_those_of_the_selected(
        self, store: Store, order: str, tenant_id: str | None
    ) -> None:
        """In the same order, page after page, indexed or not."""
        events = _some()
        await store.append(events[:7])
        await index_all(store)
        await store.append(events[7:])
        wanted = Selection(tenant_id=tenant_id, order=order, limit=5)  # type: ignore[arg-type]
        selected = await store.select(wanted)
        first = await store.facts(wanted)
        after = (first[-1].event_id, first[-1].tenant_id)
        second = await store.facts(msgspec.structs.replace(wanted, after=after))
        terms = {bytes.fromhex(e.event_id.replace("-", "")): e.terms for e in events}
        assert [each.event_id.hex() for each in first] == [
            each.event_id.replace("-", "") for each in selected
        ]
        found = [*first, *second]
        assert len({each.event_id for each in found}) == (6 if tenant_id else 10)
        assert all(terms[each.event_id] == each.terms for each in found)

    async def test_facts_say_what_the_terms_say(self, store: Store) -> None:
        """Action, outcome, actor and time, without the body."""
        await store.append([sealed(61, outcome="denied")])
        (found,) = await store.facts(Selection(tenant_id="acme"))
        assert found.first() == ("login", "denied", "u1", "user")
        assert found.milliseconds == microseconds(NOON + timedelta(seconds=61)) // 1000
