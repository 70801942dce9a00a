"""Counts lost events by tenant, and turns the counts into `audit.loss` events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from muniment.event_id import time_of
from muniment.stores.base import Sealed

LOSS_ACTION: Final = "audit.loss"
_MANY_REASONS: Final = 5


class Loss(msgspec.Struct):
    """What one tenant lost: how many events, of which time range, and why."""

    tenant_id: str
    count: int
    first: datetime
    last: datetime
    reasons: list[str]

    def details(self) -> dict[str, Any]:
        """The details of the `audit.loss` event."""
        return {
            "count": self.count,
            "first_occurred_at": self.first.isoformat(),
            "last_occurred_at": self.last.isoformat(),
            "reasons": self.reasons,
        }


class Losses:
    """The losses that are not recorded yet. `seal` makes the `audit.loss` event of one."""

    def __init__(self, seal: Callable[[Loss], Sealed], clock: Callable[[], datetime]) -> None:
        self._seal = seal
        self._clock = clock
        self._by_tenant: dict[str, Loss] = {}

    def __bool__(self) -> bool:
        return bool(self._by_tenant)

    def count(self, events: Sequence[Sealed], reason: str) -> None:
        """Add lost events."""
        for event in events:
            moment = time_of(event.event_id)
            self.put_back(Loss(event.tenant_id, 1, moment, moment, [reason]))

    def count_one(self, tenant_id: str, reason: str) -> None:
        """Add an event that was lost just now."""
        now = self._clock()
        self.put_back(Loss(tenant_id, 1, now, now, [reason]))

    def put_back(self, loss: Loss) -> None:
        """Add a loss that could not be recorded."""
        known = self._by_tenant.get(loss.tenant_id)
        if known is None:
            self._by_tenant[loss.tenant_id] = loss
            return
        known.count += loss.count
        known.first = min(known.first, loss.first)
        known.last = max(known.last, loss.last)
        for reason in loss.reasons:
            if reason not in known.reasons and len(known.reasons) < _MANY_REASONS:
                known.reasons.append(reason)

    def take(self) -> list[tuple[Loss, Sealed]]:
        """All losses with their sealed events; none are kept."""
        taken = list(self._by_tenant.values())
        self._by_tenant = {}
        return [(loss, self._seal(loss)) for loss in taken]
