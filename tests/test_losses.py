from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from muniment.canonical import decode
from muniment.errors import InvalidEvent
from muniment.event import Event, Outcome
from muniment.losses import LOSS_ACTION, Loss, Losses
from muniment.sealing import Sealer
from muniment.stores.base import Sealed

_NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def _seal(loss: Loss) -> Sealed:
    fields = {
        "tenant_id": loss.tenant_id,
        "outcome": Outcome.FAILURE,
        "details": loss.details(),
    }
    return Sealer(clock=lambda: _NOW).seal_call(LOSS_ACTION, fields)


@pytest.fixture
def losses() -> Losses:
    """No losses yet."""
    return Losses(_seal, lambda: _NOW)


def _event(tenant_id: str = "acme", *, ago: int = 0) -> Sealed:
    moment = _NOW - timedelta(seconds=ago)
    return Sealer(clock=lambda: _NOW).seal(
        Event(action="x", tenant_id=tenant_id, occurred_at=moment)
    )


def _recorded(losses: Losses) -> dict[str, Event]:
    """The events that are recorded of the losses, by tenant."""
    return {sealed.tenant_id: decode(sealed.body) for _, sealed in losses.take()}


def test_nothing_lost_is_nothing_to_record(losses: Losses) -> None:
    """Without a loss there is no `audit.loss` event."""
    assert not losses
    assert losses.take() == []


def test_losses_are_counted_by_tenant(losses: Losses) -> None:
    """Each tenant gets one event: how many it lost, of which times, and why."""
    losses.count([_event(ago=10), _event("globex"), _event(ago=60)], "the queue was full")
    losses.count([_event(ago=20)], "the disk is full")
    assert losses
    recorded = _recorded(losses)
    assert {event.action for event in recorded.values()} == {"audit.loss"}
    assert recorded["acme"].details == {
        "count": 3,
        "first_occurred_at": "2026-03-04T11:59:00+00:00",
        "last_occurred_at": "2026-03-04T11:59:50+00:00",
        "reasons": ["the queue was full", "the disk is full"],
    }
    assert recorded["globex"].details["count"] == 1


def test_an_event_that_was_never_sealed_is_lost_now(losses: Losses) -> None:
    """An event without a time of its own counts at the time of its loss."""
    losses.count_one("acme", "details: is circular")
    details = _recorded(losses)["acme"].details
    assert details["first_occurred_at"] == details["last_occurred_at"] == _NOW.isoformat()


def test_losses_are_taken_once(losses: Losses) -> None:
    """What was taken is not there any more; what comes later is counted anew."""
    losses.count([_event()], "a")
    losses.take()
    assert not losses
    losses.count([_event()], "b")
    assert _recorded(losses)["acme"].details["count"] == 1


def test_losses_that_could_not_be_recorded_are_put_back(losses: Losses) -> None:
    """What is put back adds to what was lost since."""
    losses.count([_event(ago=60)], "a")
    taken = [loss for loss, _ in losses.take()]
    losses.count([_event()], "b")
    losses.put_back(taken)
    details = _recorded(losses)["acme"].details
    assert details["count"] == 2
    assert details["first_occurred_at"] == "2026-03-04T11:59:00+00:00"
    assert details["last_occurred_at"] == "2026-03-04T12:00:00+00:00"
    assert set(details["reasons"]) == {"a", "b"}


def test_the_same_reason_is_noted_once_and_not_too_many(losses: Losses) -> None:
    """However long an outage lasts, its event stays small: the count is what grows."""
    for n in range(100):
        losses.count([_event(), _event()], f"reason {n % 50}")
    details = _recorded(losses)["acme"].details
    assert details["count"] == 200
    assert details["reasons"] == [f"reason {n}" for n in range(5)]


@pytest.mark.parametrize("reason", ["x" * 300_000, "a\ud800b", "\x00", "é" * 300_000])
def test_a_loss_can_be_recorded_whatever_its_reason(losses: Losses, reason: str) -> None:
    """A reason that quotes the input that was refused does not get the loss refused too."""
    losses.count_one("acme", reason)
    (noted,) = _recorded(losses)["acme"].details["reasons"]
    assert noted[:1] == reason[:1]


@pytest.mark.parametrize("tenant_id", ["", "a\x00b", "x" * 513, "\ud800"])
def test_a_loss_can_be_recorded_whatever_its_tenant(losses: Losses, tenant_id: str) -> None:
    """An event that is lost because no tenant can have that id is noted for the system."""
    losses.count_one(tenant_id, "tenant_id: bad")
    losses.count_one("acme", "another")
    recorded = _recorded(losses)
    assert recorded["system"].details["count"] == 1
    assert recorded["acme"].details["count"] == 1


def test_a_tenant_that_can_be_recorded_keeps_its_losses(losses: Losses) -> None:
    """A loss of a sound tenant is never the system's."""
    losses.count([_event("globex")], "a")
    with pytest.raises(InvalidEvent):
        _seal(Loss("", 1, _NOW, _NOW, []))
    assert set(_recorded(losses)) == {"globex"}
