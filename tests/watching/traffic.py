"""Traffic whose traces are known, and waiting until it is all in the store."""

from __future__ import annotations

import pytest

from muniment import AuditLog, Conflict, Event
from muniment.testing import FaultyStore
from tests.scripted import until

EVENT = Event(action="first", tenant_id="acme")


async def drained(log: AuditLog) -> None:
    """Wait until nothing is in the queue or in the spool any more."""
    await log.flush()

    def is_done() -> bool:
        now = log.snapshot()
        return now is not None and not (now.is_spooling or now.waiting)

    await until(is_done)


async def known_traffic(log: AuditLog, store: FaultyStore) -> None:
    """In 4 commits 9 events, 1 of them again, 1 conflict; then 1 refused, 3 through the spool."""
    await log.record(EVENT)
    await log.record(EVENT)
    await log.record_many([Event(action=f"tick.{n}", tenant_id="acme") for n in range(8)])
    with pytest.raises(Conflict):
        await log.record("other", tenant_id="acme", event_id=EVENT.event_id)
    store.refuse(lambda event: b'"poison"' in event.body)
    await log.record("poison", tenant_id="acme", on_error="log")
    store.fail()
    for n in range(3):
        await log.record(f"spooled.{n}", tenant_id="acme")
    store.heal()
    await drained(log)
