"""Counts what the fault tests found, for the table at the end of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple

from tests.faults.oracle import Verdict

Rounds = Callable[[int, int], int]
"""How often to inject a fault: the first number in `make test`, the second in `make faults`."""

_COLUMNS: Final = ("rounds", "acknowledged", "lost", "doubled", "never submitted")
_SHOWN: Final = 5


class Counts(NamedTuple):
    """One line of the table."""

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    stray: int = 0

    def plus(self, other: Counts) -> Counts:
        """The sums."""
        return Counts(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))


class Tally:
    """The sums by fault and store."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
        self._notes: list[str] = []

    def note(self, measured: str) -> None:
        """Add a line below the table."""
        self._notes.append(measured)

    def add(self, fault: str, store: str, verdict: Verdict, rounds: int = 1) -> None:
        """Count a verdict, and fail if it isn't clean.

        `store` is a word, or a URL that begins with it.
        """
        kept = verdict.acknowledged, len(verdict.missing), len(verdict.doubled), len(verdict.stray)
        key = fault, store.partition("://")[0]
        self._counts[key] = self._counts[key].plus(Counts(rounds, *kept))
        wrong = {
            "lost": verdict.missing,
            "doubled": verdict.doubled,
            "never submitted": verdict.stray,
        }
        assert verdict.clean, f"{fault}: " + ", ".join(
            f"{len(ids)} {name} ({', '.join(ids[:_SHOWN])})" for name, ids in wrong.items() if ids
        )

    def lines(self) -> list[str]:
        """The table; empty if nothing was counted."""
        if not self._counts:
            return []
        total = Counts()
        for counts in self._counts.values():
            total = total.plus(counts)
        names = [f"{fault}  [{store}]" for fault, store in self._counts]
        width = max(map(len, (*names, "total")))
        head = f"{'':{width}}" + "".join(f"  {name:>{_width(name)}}" for name in _COLUMNS)
        rows = zip((*names, "total"), (*self._counts.values(), total), strict=True)
        table = [head, *(f"{name:{width}}" + _numbers(counts) for name, counts in rows)]
        return [*table, *self._notes]


def _width(column: str) -> int:
    return max(len(column), 9)


def _numbers(counts: Counts) -> str:
    pairs = zip(_COLUMNS, counts, strict=True)
    return "".join(f"  {number:>{_width(name)},}" for name, number in pairs)
