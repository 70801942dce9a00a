"""Recording through an `AuditLog`, on both stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from muniment import Actor, AuditAction, AuditLog, Change, Context, Event, Outcome, Target, enrich
from muniment.errors import Conflict, InvalidEvent
from muniment.merkle import leaf_hash
from muniment.stores import open_store
from muniment.testing import FaultyStore
from tests.scripted import tailed


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AuditLog]:
    """An open log."""
    async with AuditLog.open(log_url) as log:
        yield log


async def test_record_returns_a_receipt(log: AuditLog) -> None:
    """The receipt names the event, its leaf hash, and the store that has it."""
    receipt = await log.record("login", tenant_id="acme")
    assert (receipt.tenant_id, receipt.durable_in, receipt.already) == ("acme", "store", False)
    body = await log.body(receipt.event_id)
    assert leaf_hash(body.encode()) == receipt.leaf_hash


async def test_every_field_is_kept(log: AuditLog) -> None:
    """All that a caller may say about an event comes back."""
    fields: dict[str, Any] = {
        "tenant_id": "株式会社",
        "actor": Actor.agent("a7", name="Ops bot", on_behalf_of=Actor.user("u1", name="Änn")),
        "targets": (Target("user", "u2", "Bob"), Target("role", "admin")),
        "outcome": Outcome.DENIED,
        "reason": "not on a Sunday",
        "changes": (Change(field="role", old=None, new={"name": "admin"}),),
        "context": Context(ip="10.0.0.1", request_id="r1", trace_id="t1", approval_id="ok"),
        "details": {"role_name": "admin", "nested": [1, 2.5, None, {"π": True}]},
        "organization_id": "org-1",
        "occurred_at": datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC),
    }
    receipt = await log.record("role_assign", **fields)
    event = await log.get(receipt.event_id, tenant_id="株式会社")
    assert {name: getattr(event, name) for name in fields} == fields
    assert event.recorded_at is not None
    assert event.recorded_at.tzinfo is UTC


async def test_none_is_the_same_as_not_given(log: AuditLog) -> None:
    """A caller may pass on what it hasn't got."""
    receipt = await log.record("login", tenant_id=None, actor=None, outcome=None, details=None)
    event = await log.get(receipt.event_id)
    assert (event.tenant_id, event.outcome, event.details) == ("system", Outcome.UNKNOWN, {})


async def test_an_action_of_the_vocabulary(log: AuditLog) -> None:
    """A member of `AuditAction` is recorded as its value."""
    receipt = await log.record(AuditAction.ROLE_ASSIGN)
    assert (await log.get(receipt.event_id)).action == "role_assign"


async def test_the_same_event_twice_is_stored_once(log: AuditLog) -> None:
    """The second receipt is the first one's, and says so."""
    event = Event(action="login", tenant_id="acme")
    first, second = await log.record(event), await log.record(event)
    assert (second.event_id, second.leaf_hash) == (first.event_id, first.leaf_hash)
    assert (first.already, second.already) == (False, True)


async def test_a_different_event_of_one_id_is_a_conflict(log: AuditLog) -> None:
    """The first one is kept; the error names what differs."""
    event = Event(action="login", tenant_id="acme", details={"try": 1})
    await log.record(event)
    other = Event(
        action="logout", tenant_id="acme", event_id=event.event_id, occurred_at=event.occurred_at
    )
    with pytest.raises(Conflict) as caught:
        await log.record(other)
    assert caught.value.fields == ("action", "details.try")
    assert (await log.get(event.event_id)).action == "login"


async def test_an_idempotency_key_holds_across_retries(log: AuditLog) -> None:
    """A retry with the same key comes at another time, and is the same event."""
    first = await log.record("invoice.paid", tenant_id="acme", idempotency_key="inv-7")
    again = await log.record("invoice.paid", tenant_id="acme", idempotency_key="inv-7")
    assert (again.event_id, again.already) == (first.event_id, True)


async def test_a_key_of_a_different_event_is_a_conflict(log: AuditLog) -> None:
    """A key that is used for something else is told, not swallowed."""
    await log.record("invoice.paid", tenant_id="acme", idempotency_key="inv-7")
    with pytest.raises(Conflict, match="action"):
        await log.record("invoice.void", tenant_id="acme", idempotency_key="inv-7")


async def test_what_processors_stamp_is_no_difference(log_url: str) -> None:
    """Two services that enrich one event differently have recorded the same event."""
    event = Event(action="login", tenant_id="acme")
    async with AuditLog.open(log_url, processors=[enrich(service="web")]) as log:
        first = await log.record(event)
    async with AuditLog.open(log_url, processors=[enrich(service="worker")]) as log:
        second = await log.record(event)
        kept = await log.get(event.event_id)
    assert second == type(second)(
        tenant_id="acme",
        event_id=first.event_id,
        leaf_hash=first.leaf_hash,
        durable_in="store",
        already=True,
    )
    assert (kept.context.service, kept.stamped) == ("web", ("context.service",))


async def test_record_many_keeps_the_order(log: AuditLog) -> None:
    """Receipts come in the order of the events, and so does the tail."""
    start = await log.record("start")
    events = [Event(action=f"a{n}", tenant_id=f"t{n % 3}") for n in range(50)]
    receipts = await log.record_many(events)
    tail = [e.event_id for e in await tailed(log, 50, after=start.event_id)]
    assert [r.event_id for r in receipts] == [e.event_id for e in events] == tail


async def test_record_many_checks_all_before_it_stores_any(log: AuditLog) -> None:
    """One bad event, and none is stored."""
    good = Event(action="login", tenant_id="acme")
    bad = Event(action="login", tenant_id="acme", details={"x": float("nan")})
    with pytest.raises(InvalidEvent, match=r"details\.x"):
        await log.record_many([good, bad])
    assert (await log.search()).events == []


async def test_record_many_of_none(log: AuditLog) -> None:
    """An empty list is no error."""
    assert await log.record_many([]) == []


async def test_emit_is_durable_after_flush(log: AuditLog) -> None:
    """What was emitted can be found once `flush` has returned."""
    for n in range(100):
        log.emit("tick", details={"n": n})
    await log.flush()
    assert len((await log.search(action="tick", limit=500)).events) == 100


async def test_emit_is_durable_after_close(log_url: str) -> None:
    """Leaving the log makes durable what was emitted."""
    async with AuditLog.open(log_url) as log:
        for _ in range(100):
            log.emit("tick")
    async with AuditLog.open(log_url) as log:
        assert len((await log.search(action="tick", limit=500)).events) == 100


async def test_emit_takes_a_snapshot(log: AuditLog) -> None:
    """Changing nested details after `emit` has returned changes nothing."""
    details = {"nested": {"list": [1, 2]}}
    log.emit("tick", details=details)
    details["nested"]["list"].append(3)
    details["later"] = {"x": []}
    await log.flush()
    assert (await log.search()).events[0].details == {"nested": {"list": [1, 2]}}


@pytest.mark.parametrize("details", [{}, {"a": 1}])
async def test_a_snapshot_is_neither_filled_nor_emptied(
    log: AuditLog, details: dict[str, Any]
) -> None:
    """Details that were empty stay empty, and those that were not stay what they were."""
    given = dict(details)
    log.emit("tick", details=given)
    given.clear()
    given["later"] = True
    await log.flush()
    assert (await log.search()).events[0].details == details


async def test_a_body_is_bounded_however_it_is_recorded(log: AuditLog) -> None:
    """Targets may be many, or have long names, but not so that no bound holds."""
    targets = [Target("user", f"u{n}", "x" * 4096) for n in range(1000)]
    with pytest.raises(InvalidEvent, match="event: takes"):
        await log.record("login", targets=targets)
    with pytest.raises(InvalidEvent, match="event: takes"):
        log.emit("login", targets=targets)


async def test_callers_share_commits(log_url: str) -> None:
    """Concurrent `record`s are committed together, not one by one."""
    store = FaultyStore(open_store(log_url))
    async with AuditLog(store) as log:
        await asyncio.gather(*(log.record("tick") for _ in range(200)))
    assert sum(store.appended) == 200
    assert len(store.appended) <= 5


async def test_a_log_bound_to_a_tenant_writes_that_one_only(log_url: str) -> None:
    """The tenant is filled in, and another one is refused."""
    async with AuditLog.open(log_url, tenant_id="acme") as log:
        assert (await log.record("login")).tenant_id == "acme"
        with pytest.raises(InvalidEvent, match=r"tenant_id.*bound to 'acme'"):
            await log.record("login", tenant_id="globex")
        with pytest.raises(InvalidEvent, match="tenant_id"):
            await log.record(Event(action="login", tenant_id="globex"))


async def test_on_error_log_never_raises(log_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Under `on_error="log"` a bad event is logged and counted; its receipt says "lost"."""
    async with AuditLog.open(log_url, on_error="log") as log:
        with caplog.at_level(logging.ERROR, logger="muniment"):
            receipt = await log.record("login", tenant_id="acme", details={"x": {1, 2}})
            log.emit("", tenant_id="acme")
        assert receipt.durable_in == "lost"
        assert "details.x" in caplog.text
        await log.flush()
        assert (await log.stats())["recorded"]["dropped"] == 2
    async with AuditLog.open(log_url) as log:
        losses = (await log.search(action="audit.loss", tenant_id="acme")).events
    assert sum(event.details["count"] for event in losses) == 2


async def test_the_policy_may_be_chosen_for_a_call(log: AuditLog) -> None:
    """`on_error` of a call goes before the log's."""
    assert (await log.record("", on_error="log")).durable_in == "lost"
    with pytest.raises(InvalidEvent):
        await log.record("")


async def test_stats_tell_what_happened(log: AuditLog) -> None:
    """Figures of the store, the queue, the recorder and the spool, ready for JSON."""
    await log.record_many([Event(action="tick") for _ in range(5)])
    stats = await log.stats()
    assert stats["recorded"]["stored"] == 5
    assert (stats["queue"]["waiting"], stats["spool"]["pending"]) == (0, 0)


async def test_two_logs_may_share_a_store(log_url: str) -> None:
    """Processes and logs that record side by side lose nothing of each other's."""
    async with AuditLog.open(log_url) as one, AuditLog.open(log_url) as other:
        await asyncio.gather(
            *((one if n % 2 else other).record(f"a{n}", tenant_id="acme") for n in range(100))
        )
        assert len((await one.search(tenant_id="acme", limit=500)).events) == 100
