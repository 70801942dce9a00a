"""The contract of a store's counts: how many events, by time, action and outcome.

A projection: made from the events' own columns, behind them, by `count_pending`; it may be thrown
away and made again at any time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

Width = Literal[3_600_000, 86_400_000]
HOUR: Final = 3_600_000
DAY: Final = 86_400_000
"""The widths of the cells, in milliseconds."""


class Cell(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """So many events with that action and outcome, their ids' times from `start` on.

    `start` is in milliseconds since 1970, a multiple of the width.
    """

    start: int
    action: str
    outcome: str
    events: int


class Facts(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the index terms say of an event, without its body. `event_id` are its 16 bytes."""

    tenant_id: str
    event_id: bytes
    terms: str


class Counts(ABC):
    """Keeps counts. Methods raise as those of a `Store` do."""

    @abstractmethod
    async def count_pending(self, limit: int) -> int:
        """Count at most about `limit` more events; returns how many were.

        An event MUST be counted once, whichever processes call this at the same time, and however
        one of them ends. Returns 0 when there is nothing to do or another process is at it.
        """

    @abstractmethod
    async def cells(
        self, tenant_id: str | None, since: int, until: int, width: Width
    ) -> Sequence[Cell]:
        """The counts of a tenant, or of all together, of cells that start in [since, until).

        MUST be whole: events that `count_pending` has not come to yet are counted too.
        """

    @abstractmethod
    async def forget(self) -> None:
        """Throw all counts away: `count_pending` makes them again, from the first event on."""
