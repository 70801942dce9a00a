from __future__ import annotations

import pytest

from muniment.metrics import EVENTS, SECONDS, Histogram


def _observed(*values: float, bounds: tuple[float, ...] = (1, 10, 100)) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


def test_a_value_counts_up_to_the_first_bound_that_it_does_not_exceed() -> None:
    """A bound is inclusive, as Prometheus has it; the last count is that of all values."""
    assert _observed(0.5, 1, 2, 10, 101).cumulative() == [2, 4, 4, 5]


def test_a_summary_has_quantiles_rounded_up_to_a_bound() -> None:
    """Half of the values are at most `p50`; nothing is larger than `max`, not even `p99`."""
    summary = _observed(*[1] * 50, *[7] * 45, *[42] * 5).summary()
    assert summary == {"count": 100, "mean": 5.75, "p50": 1, "p90": 10, "p99": 42, "max": 42}


def test_what_is_beyond_all_bounds_is_told_by_the_largest() -> None:
    """A quantile that no bound reaches is the largest value itself."""
    assert _observed(5_000).summary()["p50"] == 5_000


def test_without_values_all_is_zero() -> None:
    """Nothing is divided by nothing."""
    summary = _observed().summary()
    assert set(summary.values()) == {0}


@pytest.mark.parametrize("bounds", [EVENTS, SECONDS])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    """Else values would be counted under the wrong one."""
    assert list(bounds) == sorted(set(bounds))
