"""Counts of observed values by size: what distributions are told from, without any library."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Any, Final

EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
SECONDS: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


class Histogram:
    """How many values were observed up to each of the ascending `bounds`.

    One thread observes; any may read, without a lock.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.last: float = 0
        self.sum: float = 0
        self._largest: float = 0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        self.last = value
        self._largest = max(self._largest, value)

    def cumulative(self) -> list[int]:
        """How many values were at most as large as each bound, and how many there were at all."""
        return list(accumulate(self._counts))

    def summary(self) -> dict[str, Any]:
        """The count, the mean, the largest, and quantiles, rounded up to the next bound."""
        cumulative, largest = self.cumulative(), self._largest
        count = cumulative[-1]

        def quantile(share: float) -> float:
            reached = bisect_left(cumulative, share * count)
            return min(largest, self.bounds[reached]) if reached < len(self.bounds) else largest

        return {
            "count": count,
            "mean": self.sum / count if count else 0.0,
            "p50": quantile(0.5),
            "p90": quantile(0.9),
            "p99": quantile(0.99),
            "max": largest,
        }
