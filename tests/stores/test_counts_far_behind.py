"""What is counted while counting is far behind, in SQLite, where that goes another way."""

from __future__ import annotations

import pytest

from muniment.stores import open_store
from muniment.stores.sqlite import counts
from muniment.testing.contract import sealed
from muniment.testing.counts_contract import cells, count_all


async def test_cells_are_whole_however_far_counting_is_behind(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant's events are then found by its own key; those that are counted come once."""
    monkeypatch.setattr(counts, "_MUCH", 3)
    store = open_store(sqlite_url)
    await store.open()
    events = [sealed(n, tenant_id=("acme", "globex")[n % 2]) for n in range(20)]
    await store.append(events[:10])
    await count_all(store)
    await store.append(events[10:])
    found = [sum((await cells(store, tenant)).values()) for tenant in ("acme", "globex", None)]
    await store.close()
    assert found == [10, 10, 20]
