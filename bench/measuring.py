"""How it is measured: calls timed one by one, in rounds, and no number without its work."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from time import perf_counter_ns
from typing import NamedTuple

import msgspec


class WorkMissing(Exception):
    """What was timed is not found where it should be, so that its time says nothing."""


class Timing(NamedTuple):
    """Calls that were made: the events they recorded, the seconds it took, each call's time."""

    events: int
    seconds: float
    call_nanoseconds: Sequence[int]


class Round(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measurement of a case, on empty tables.

    `found` is what the tables held afterwards, warm-up included; it is None where nothing can be
    counted, as in /dev/null. `index_seconds` is how long it took to bring the index up afterwards,
    which recording leaves for later. `without_leaf` is how many events the sequencer was behind by
    at the end. Of inclusion proofs, `proof_bytes` is the most that one takes as text, with its
    checkpoint and without, and `hash_bytes` the most that its hashes take.
    """

    events: int
    seconds: float
    p50_microseconds: float
    p99_microseconds: float
    found: int | None = None
    index_seconds: float | None = None
    p95_microseconds: float | None = None
    longest_microseconds: float | None = None
    without_leaf: int | None = None
    proof_bytes: tuple[int, int] | None = None
    hash_bytes: int | None = None

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def rate_with_index(self) -> float | None:
        """Events per second, if the time that the index took afterwards is counted too."""
        if self.index_seconds is None:
            return None
        return self.events / (self.seconds + self.index_seconds)

    @property
    def microseconds(self) -> float:
        """The mean time for one event."""
        return self.seconds / self.events * 1e6


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to measure, again in each round unless `once`; `tasks` call it at the same time."""

    group: str
    name: str
    tasks: int
    measure: Callable[[], Awaitable[Round]]
    once: bool = False


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A case and its rounds."""

    group: str
    name: str
    tasks: int
    rounds: list[Round]


class Spread(msgspec.Struct, frozen=True):
    """Some numbers of the same thing, by their median and extremes."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """The spread of at least one number."""
        return cls(statistics.median(numbers), min(numbers), max(numbers))


def round_of(
    timing: Timing,
    *,
    warm_up: int = 0,
    found: int | None = None,
    index_seconds: float | None = None,
    without_leaf: int | None = None,
    sizes: tuple[int, int, int] | None = None,
) -> Round:
    """The round of that timing. Raises `WorkMissing` unless all its events were found."""
    if timing.events < 1 or (found is not None and found != timing.events + warm_up):
        msg = f"{timing.events + warm_up} events were recorded, and {found} are there"
        raise WorkMissing(msg)
    times = timing.call_nanoseconds
    return Round(
        events=timing.events,
        seconds=timing.seconds,
        p50_microseconds=percentile(times, 50) / 1e3,
        p95_microseconds=percentile(times, 95) / 1e3,
        p99_microseconds=percentile(times, 99) / 1e3,
        longest_microseconds=max(times) / 1e3,
        found=found,
        index_seconds=index_seconds,
        without_leaf=without_leaf,
        proof_bytes=sizes and sizes[:2],
        hash_bytes=sizes and sizes[2],
    )


def percentile(numbers: Sequence[int], percent: int) -> int:
    """The smallest of the numbers that at least `percent` % of them don't exceed."""
    return sorted(numbers)[ceil(len(numbers) * percent / 100) - 1]


async def keep_calling(call: Callable[[], Awaitable[int]], *, tasks: int, seconds: float) -> Timing:
    """Time `call`, which returns how many events it recorded, from so many tasks, for a while.

    The time ends with the last call that was begun within `seconds`; every task makes one.
    """
    times: list[int] = []
    events = 0
    began = perf_counter_ns()

    async def one_task() -> None:
        nonlocal events
        while True:
            before = perf_counter_ns()
            done = await call()
            after = perf_counter_ns()
            events += done
            times.append(after - before)
            if after - began >= seconds * 1e9:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(one_task())
    return Timing(events, (perf_counter_ns() - began) / 1e9, times)


async def run_rounds(
    cases: Sequence[Case], rounds: int, on_progress: Callable[[int, Case], None]
) -> list[Result]:
    """Every case in turn, then all again: a disturbance hits neighbours, not one case alone."""
    results = [Result(group=c.group, name=c.name, tasks=c.tasks, rounds=[]) for c in cases]
    for n in range(rounds):
        for case, result in zip(cases, results, strict=True):
            if n and case.once:
                continue
            on_progress(n, case)
            result.rounds.append(await case.measure())
    return results
