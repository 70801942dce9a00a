"""Counts lost events by tenant, and turns the counts into `audit.loss` events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from muniment.errors import InvalidEvent
from muniment.event import SYSTEM_TENANT, Actor, Outcome
from muniment.event_id import time_of
from muniment.stores.base import Sealed

LOSS_ACTION: Final = "audit.loss"
_MANY_REASONS: Final = 5
_LONG_REASON: Final = 500


class Loss(msgspec.Struct):
    """What one tenant lost: how many events, of which time range, and why."""

    tenant_id: str
    count: int
    first: datetime
    last: datetime
    reasons: list[str]

    def fields(self) -> dict[str, Any]:
        """The fields of the `audit.loss` event."""
        return {
            "tenant_id": self.tenant_id,
            "actor": Actor.system("muniment"),
            "outcome": Outcome.FAILURE,
            "details": self.details(),
        }

    def details(self) -> dict[str, Any]:
        """The details of the `audit.loss` event."""
        return {
            "count": self.count,
            "first_occurred_at": self.first.isoformat(),
            "last_occurred_at": self.last.isoformat(),
            "reasons": self.reasons,
        }


class Losses:
    """The losses that are not recorded yet. `seal` makes the `audit.loss` event of one.

    Thread-safe. `total` is how many events were ever counted.
    """

    def __init__(self, seal: Callable[[Loss], Sealed], clock: Callable[[], datetime]) -> None:
        self._seal = seal
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may emit, and lose, while we hold it
        self._by_tenant: dict[str, Loss] = {}
        self._kept: list[tuple[Loss, Sealed]] = []
        self.total = 0
        self._last: float | None = None

    def __bool__(self) -> bool:
        return bool(self._by_tenant or self._kept)

    @property
    def seconds_since_last(self) -> float | None:
        """How long ago an event was last counted, whatever the clock says; None if never."""
        last = self._last
        return None if last is None else time.monotonic() - last

    def count(self, events: Sequence[Sealed], reason: str) -> None:
        """Add lost events."""
        for event in events:
            self._count_one(event.tenant_id, time_of(event.event_id), reason)

    def count_one(self, tenant_id: str, reason: str) -> None:
        """Add an event that was lost just now."""
        self._count_one(tenant_id, self._clock(), reason)

    def put_back(self, losses: Sequence[Loss]) -> None:
        """Add losses that were taken and could not be recorded."""
        for loss in losses:
            self._add(loss)

    def keep(self, taken: Sequence[tuple[Loss, Sealed]]) -> None:
        """Add what was taken and may be recorded or not: it will be taken as the same events."""
        with self._lock:
            self._kept.extend(taken)

    def take(self) -> list[tuple[Loss, Sealed]]:
        """All losses with their sealed events; none are left."""
        with self._lock:
            kept, self._kept = self._kept, []
            taken, self._by_tenant = self._by_tenant, {}
        return [*kept, *((loss, self._sealed(loss)) for loss in taken.values())]

    def _count_one(self, tenant_id: str, moment: datetime, reason: str) -> None:
        text = reason[:_LONG_REASON].encode("utf-8", "backslashreplace").decode()
        with self._lock:
            self.total += 1
            self._last = time.monotonic()
            self._add(Loss(tenant_id, 1, moment, moment, [text]))

    def _add(self, loss: Loss) -> None:
        with self._lock:
            known = self._by_tenant.setdefault(loss.tenant_id, loss)
            if known is loss:
                return
            known.count += loss.count
            known.first = min(known.first, loss.first)
            known.last = max(known.last, loss.last)
            for reason in loss.reasons:
                if reason not in known.reasons and len(known.reasons) < _MANY_REASONS:
                    known.reasons.append(reason)

    def _sealed(self, loss: Loss) -> Sealed:
        try:
            return self._seal(loss)
        except InvalidEvent:
            # No tenant can have that id, and perhaps the event was lost because of it.
            loss.tenant_id = SYSTEM_TENANT
            return self._seal(loss)
