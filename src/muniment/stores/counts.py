"""The contract of a store's counts: how many events, by time, action and outcome.

A projection: made from the events' own columns, behind them, by `count_pending`; it may be thrown
away and made again at any time. An erased event still counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from muniment.query import TERM_SEPARATOR

Width = Literal[3_600_000, 86_400_000]
HOUR: Final = 3_600_000
DAY: Final = 86_400_000
"""The widths of the cells, in milliseconds."""

ALL_TENANTS: Final = ""
"""Stands for all tenants together where their counts are kept: no tenant can be called that."""


class Bars(NamedTuple):
    """The bars that cells are added up for: each of that width, one of them from `origin` on.

    In milliseconds, and multiples of the cells' width.
    """

    origin: int
    width: int


class Cell(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """So many events with that action and outcome, their ids' times from `start` on.

    `start` is in milliseconds since 1970.
    """

    start: int
    action: str
    outcome: str
    events: int


class TenantCell(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """So many events of a tenant with that action and outcome."""

    tenant_id: str
    action: str
    outcome: str
    events: int


FACTS: Final = ("tenant_id", "event_id", "terms")


class Facts(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the index terms say of an event, without its body. `event_id` are its 16 bytes."""

    tenant_id: str
    event_id: bytes
    terms: str

    @property
    def milliseconds(self) -> int:
        """The event's time, in milliseconds since 1970."""
        return int.from_bytes(self.event_id[:6], "big")

    def first(self) -> tuple[str, str, str, str]:
        """The event's action, outcome, and its actor's id and type."""
        parts = self.terms.split(TERM_SEPARATOR, 5)
        if len(parts) < 6:  # not written by us
            return "", "", "", ""
        return parts[1][7:], parts[2][8:], parts[3][6:], parts[4][11:]

    def values(self, kind: str) -> Iterator[str]:
        """The values of its terms of that kind, such as `target` or `target_type`."""
        start = f"{TERM_SEPARATOR}{kind}:"
        for rest in self.terms.split(start)[1:]:
            yield rest.split(TERM_SEPARATOR, 1)[0]


class Counts(ABC):
    """Keeps counts. Methods raise as those of a `Store` do."""

    step: int = 5000
    """How many events to count at a time."""

    @abstractmethod
    async def count_pending(self, limit: int) -> int:
        """Count at most about `limit` more events; returns how many were.

        An event MUST be counted once, whichever processes call this at the same time, and however
        one of them ends. Returns 0 when there is nothing to do or another process is at it.
        """

    @abstractmethod
    async def cells(
        self, tenant_id: str | None, since: int, until: int, width: Width, bars: Bars
    ) -> Sequence[Cell]:
        """The counts of a tenant, or of all together, of cells that start in [since, until).

        `since` and `until` are in milliseconds since 1970, multiples of the width. Those in one bar
        come added up, starting where it does; in no order, and one MAY come in parts. MUST be
        whole: events that `count_pending` has not come to yet are counted too, in the same
        snapshot. "All" are those that the store's user may see.
        """

    @abstractmethod
    async def by_tenant(self, since: int, until: int, width: Width) -> Sequence[TenantCell]:
        """The counts of each tenant that the store's user may see, as whole as those of `cells`.

        Of cells that start in [since, until), added up; in no order, and one MAY come in parts.
        They MUST be found by key: this costs what they are, however many others there are.
        """

    @abstractmethod
    async def tenants(self, limit: int) -> list[str]:
        """The first tenants in their order that events are counted of, and that may be seen.

        MAY miss one whose first events are not counted yet.
        """

    @abstractmethod
    async def forget(self) -> None:
        """Throw all counts away: `count_pending` makes them again, from the first event on."""
