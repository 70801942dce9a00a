"""Events of what a block of code did, and how they are captured in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from muniment import AuditLog, Outcome, Target
from muniment.testing import capture_events


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AuditLog]:
    """An open log."""
    async with AuditLog.open(log_url) as log:
        yield log


# --- action


async def test_action_records_success(log: AuditLog) -> None:
    """A block that ends well is recorded once, with its duration and what it said."""
    async with log.action("org_sync", tenant_id="acme", details={"source": "ldap"}) as running:
        running.details["members"] = 3
        running.targets = [Target("org", "o1")]
    (event,) = (await log.search()).events
    assert (event.outcome, event.targets) == (Outcome.SUCCESS, (Target("org", "o1"),))
    assert event.details.pop("duration_ms") >= 0
    assert event.details == {"source": "ldap", "members": 3}


@pytest.mark.parametrize(
    ("error", "outcome"), [(ValueError("boom"), "failure"), (PermissionError("no"), "denied")]
)
async def test_action_records_an_error(log: AuditLog, error: Exception, outcome: str) -> None:
    """An exception becomes the outcome and the reason, and passes through."""
    with pytest.raises(type(error)):
        async with log.action("org_sync", tenant_id="acme"):
            raise error
    (event,) = (await log.search()).events
    assert (event.outcome, event.reason) == (outcome, f"{type(error).__name__}: {error}")


async def test_action_records_a_cancelled_block(log: AuditLog) -> None:
    """A block that is cancelled is recorded as a failure, and stays cancelled."""
    entered = asyncio.Event()

    async def work() -> None:
        async with log.action("org_sync"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (event,) = (await log.search()).events
    assert (event.outcome, event.details["error"]) == (Outcome.FAILURE, "CancelledError")


# --- capture_events


async def test_capture_events_sees_what_is_recorded(sqlite_url: str) -> None:
    """An application's test sees every event, as it is stored."""
    async with AuditLog.open(sqlite_url) as log:
        with capture_events() as events:
            receipt = await log.record("login", tenant_id="acme")
            log.emit("logout", tenant_id="acme")
        await log.record("unseen")
        assert [event.action for event in events] == ["login", "logout"]
        assert events[0] == await log.get(receipt.event_id)
