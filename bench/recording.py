"""`record` and `record_many` on an opened log, with the time that the index takes afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter, perf_counter_ns
from typing import Final

from bench.measuring import Timing, WorkMissing, keep_calling
from bench.workload import ACTION, event_of, fields_of, happenings
from muniment import AuditLog

LIST_LENGTH: Final = 2_000
WARM_UP: Final = 64
_POLL: Final = 0.005
_PATIENCE: Final = 120


async def time_calls(call: Callable[[], Awaitable[int]], *, tasks: int, seconds: float) -> Timing:
    """The timing of `call`, whose connections and statements are warmed up before."""
    await asyncio.gather(*(call() for _ in range(warm_up_calls(tasks))))
    return await keep_calling(call, tasks=tasks, seconds=seconds)


def warm_up_calls(tasks: int) -> int:
    """How many calls are made, at the same time, before the clock runs."""
    return min(tasks, WARM_UP)


def record_one(log: AuditLog) -> Callable[[], Awaitable[int]]:
    """A call that records one event."""
    next_happening = happenings()

    async def call() -> int:
        await log.record(ACTION, **fields_of(next_happening()))
        return 1

    return call


async def time_lists(log: AuditLog, lists: int, *, at_once: int = 1) -> Timing:
    """The timing of `record_many` on lists that were made before, from so many tasks."""
    next_happening = happenings()
    made = [[event_of(next_happening()) for _ in range(LIST_LENGTH)] for _ in range(lists + 1)]
    await log.record_many(made.pop())
    times = []

    async def record_lists() -> None:
        while made:
            events = made.pop()
            before = perf_counter_ns()
            await log.record_many(events)
            times.append(perf_counter_ns() - before)

    began = perf_counter_ns()
    await asyncio.gather(*(record_lists() for _ in range(at_once)))
    return Timing(lists * LIST_LENGTH, (perf_counter_ns() - began) / 1e9, times)


async def seconds_to_index(log: AuditLog) -> float:
    """How long it takes to bring the log's index up, now that nothing more is recorded."""
    began = perf_counter()
    while (await log.stats())["store"]["not_indexed"]:
        if perf_counter() - began > _PATIENCE:
            msg = f"the index has not caught up within {_PATIENCE} s"
            raise WorkMissing(msg)
        if not await log.store.index_pending(log.store.index_step):
            await asyncio.sleep(_POLL)  # the log's own indexer is at it
    return perf_counter() - began
