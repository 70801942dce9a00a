"""The range that is counted in, and the bars that cover it. All times here are milliseconds."""

from __future__ import annotations

from datetime import datetime
from math import log
from typing import Final, NamedTuple

from muniment.errors import InvalidQuery
from muniment.event_id import microseconds
from muniment.query import EventFilter
from muniment.stores.counts import DAY, HOUR

_SECOND: Final = 1000
_MINUTE: Final = 60 * _SECOND
_WEEK: Final = 7 * DAY
_MONDAY: Final = 4 * DAY  # 1970-01-05
_WIDTHS: Final = (
    *(n * _SECOND for n in (1, 5, 10, 30)),
    *(n * _MINUTE for n in (1, 5, 10, 30)),
    *(n * HOUR for n in (1, 3, 6, 12)),
    DAY,
    *(n * _WEEK for n in (1, 2, 4, 13, 26, 52)),
)
_LATEST: Final = 253_402_300_800_000  # the end of the year 9999
LAST: Final = 1000 * _LATEST - 1
"""The last microsecond that there is a datetime of; a bar may end after it."""


class Range(NamedTuple):
    """What is asked for, [since, until), and the bars that cover it; in milliseconds."""

    since: int
    until: int
    start: int
    end: int
    width: int


def make_range(wanted: EventFilter, now: datetime, bars: int) -> Range:
    """The range that a filter asks for, the last 7 days unless it says, in about so many bars.

    Raises `InvalidQuery` if there is nothing between its ends.
    """
    until = _LATEST if wanted.until is None else -(-microseconds(wanted.until) // 1000)
    if wanted.until is None:
        until = microseconds(now) // 1000 + 1
    since = until - _WEEK if wanted.since is None else microseconds(wanted.since) // 1000
    since, until = max(0, since), min(until, _LATEST)
    if since >= until:
        raise InvalidQuery("since", "is not before until, or lies in the future")
    span = until - since
    width = min(_WIDTHS, key=lambda width: abs(log(span / width / bars)))
    if span > width * bars:
        longest = _WIDTHS[-1]
        width = max(width, span // bars // longest * longest)
    return with_bars(wanted, since, until, width)


def with_bars(wanted: EventFilter, since: int, until: int, width: int) -> Range:
    """The range with such bars. An end that was not given is theirs."""
    first = _MONDAY if width % _WEEK == 0 else 0
    start = (since - first) // width * width + first
    end = -(-(until - first) // width) * width + first
    return Range(
        max(0, start) if wanted.since is None else since,
        end if wanted.until is None else until,
        start,
        end,
        width,
    )
