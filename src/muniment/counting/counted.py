"""What counting tells."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """How many events happened from `start` on, until the next bar, by outcome (only those > 0)."""

    start: datetime
    outcomes: dict[str, int]


class FacetValue(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a facet, as a filter takes it, and how many events have it.

    `type` and `name` say what an actor or target is; both as the newest event says it.
    """

    value: str
    events: int
    type: str | None = None
    name: str | None = None


class Facet(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent values. Unless `exact`, there are at least so many events of each."""

    values: list[FacetValue]
    exact: bool


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted. Unless `exact`, there are at least so many events.

    `since` and `until` are the range that the bars cover, `width` is a bar's, in seconds. `facets`
    are by `action`, `category`, `activity`, `outcome`, `actor` (`user:u1`), `target` (its id), and
    `tenant` unless one is asked for. That by `activity` counts the others beside those asked for.
    """

    since: datetime
    until: datetime
    width: int
    events: int
    exact: bool
    bars: list[Bar]
    facets: dict[str, Facet]
