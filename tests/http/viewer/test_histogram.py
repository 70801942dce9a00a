"""The histogram over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from muniment.counting import Bar, Counted
from muniment.http.viewer.histogram import HEIGHT, DrawnBar, Histogram, histogram_of

_START = datetime(2026, 1, 5, tzinfo=UTC)
_OUTCOMES = ("success", "failure", "denied", "unknown")


def _counted(*bars: dict[str, int]) -> Counted:
    return Counted(
        since=_START,
        until=_START + timedelta(hours=len(bars)),
        width=3600,
        events=sum(sum(bar.values()) for bar in bars),
        exact=True,
        bars=[
            Bar(start=_START + timedelta(hours=n), outcomes=outcomes)
            for n, outcomes in enumerate(bars)
        ],
        facets={},
    )


def _drawn(*bars: dict[str, int]) -> Histogram:
    return histogram_of(_counted(*bars), lambda start, end: f"{start:%H}-{end:%H}")


def _height(bar: DrawnBar) -> float:
    return sum(piece.height for piece in bar.pieces)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(_OUTCOMES), st.integers(1, 10**9), max_size=4),
        min_size=1,
        max_size=80,
    )
)
def test_every_piece_is_seen_and_none_leaves_the_picture(bars: list[dict[str, int]]) -> None:
    """However the numbers differ, an outcome that is there has some height, one upon another."""
    for given_bar, bar in zip(bars, _drawn(*bars).bars, strict=True):
        assert {piece.outcome for piece in bar.pieces} == set(given_bar)
        bottom = HEIGHT
        for piece in bar.pieces:
            assert piece.height > 0
            assert piece.y >= -0.01
            assert abs(piece.y + piece.height - bottom) < 0.02
            bottom = piece.y


def test_heights_are_to_scale() -> None:
    """Half as many events, half as high."""
    first, second = _drawn({"success": 100}, {"success": 30, "failure": 20}).bars
    assert _height(first) == HEIGHT
    assert _height(second) == HEIGHT / 2


def test_each_bar_leads_to_its_own_range() -> None:
    """The end of one is the beginning of the next."""
    assert [bar.url for bar in _drawn({}, {"success": 1}, {}).bars] == ["00-01", "01-02", "02-03"]


def test_no_event_is_no_bar() -> None:
    """An empty range can be drawn."""
    drawn = _drawn({}, {})
    assert [bar.pieces for bar in drawn.bars] == [(), ()]
    assert drawn.top == 0


def test_the_axis_goes_from_end_to_end() -> None:
    """Its first and last mark are those of the range."""
    ticks = _drawn({}, {"success": 1}, {}, {}).ticks
    assert (ticks[0], ticks[-1]) == (_START, _START + timedelta(hours=4))
    assert list(ticks) == sorted(ticks)
