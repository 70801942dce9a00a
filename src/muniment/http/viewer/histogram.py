"""The histogram over time: where each bar stands, and where it leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from muniment.counting import Bar, Counted

ORDER: Final = ("success", "unknown", "denied", "failure")
"""The outcomes from the bottom of a bar up."""
HEIGHT: Final = 100.0
_LEAST: Final = 2.0
_TICKS: Final = 5


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a bar that is of one outcome; `y` and `height` are from the top, of 100."""

    outcome: str
    y: float
    height: float


class DrawnBar(msgspec.Struct, frozen=True, kw_only=True):
    """A bar, the range that it stands for, and the link that zooms into it."""

    start: datetime
    end: datetime
    events: int
    outcomes: dict[str, int]
    pieces: tuple[Piece, ...]
    url: str


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """All bars. `top` is the number of events that the full height stands for."""

    bars: tuple[DrawnBar, ...]
    ticks: tuple[datetime, ...]
    top: int
    width: int


def histogram_of(counted: Counted, link: Callable[[datetime, datetime], str]) -> Histogram:
    """The histogram of what was counted; `link` gives the link to a range."""
    totals = [sum(bar.outcomes.values()) for bar in counted.bars]
    top = max(totals, default=0)
    starts = [bar.start for bar in counted.bars]
    bars = tuple(
        DrawnBar(
            start=bar.start,
            end=end,
            events=total,
            outcomes=bar.outcomes,
            pieces=_pieces(bar, top),
            url=link(bar.start, end),
        )
        for bar, end, total in zip(counted.bars, [*starts[1:], counted.until], totals, strict=True)
    )
    return Histogram(bars=bars, ticks=_ticks(bars), top=top, width=counted.width)


def _pieces(bar: Bar, top: int) -> tuple[Piece, ...]:
    """Heights to scale, but none so small that it is not seen: the highest makes room for it."""
    shown = [outcome for outcome in ORDER if bar.outcomes.get(outcome)]
    heights = {o: max(_LEAST, bar.outcomes[o] / top * HEIGHT) for o in shown}
    if (over := sum(heights.values()) - HEIGHT) > 0:
        heights[max(heights, key=heights.__getitem__)] -= over
    pieces = []
    bottom = HEIGHT
    for outcome in shown:
        bottom -= heights[outcome]
        pieces.append(
            Piece(
                outcome=outcome,
                y=round(bottom, 2),
                height=round(heights[outcome], 2),
            )
        )
    return tuple(pieces)


def _ticks(bars: Sequence[DrawnBar]) -> tuple[datetime, ...]:
    """Some moments, evenly spread, from the first bar's start to the last one's end."""
    if not bars:
        return ()
    first, last = bars[0].start, bars[-1].end
    return tuple(first + (last - first) * n / (_TICKS - 1) for n in range(_TICKS))
