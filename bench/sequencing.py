"""What sequencing costs those who record, and how long an event waits for its checkpoint.

The load is offered: events are due at a steady rate, whatever became of those before, and a call's
time runs from when it was due. Half of what `record` reaches unsequenced, as fast as it can.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

from bench.measuring import Case, Round, Timing, WorkMissing, round_of
from bench.postgres import upgrade
from bench.recording import record_one, time_calls, warm_up_calls
from bench.trees import KEY, Place, count_events, places
from bench.workload import ACTION, fields_of, happenings
from muniment import AuditLog
from muniment.stores.trees import BUNDLE_WIDTH, ID_BYTES, Published, Trees
from tests.servers.postgres import Postgres

GROUP: Final = "sequencing"
WINDOW_GROUP: Final = "window"
TASKS: Final = 1_000
"""So many record at the same time where it is as fast as they can."""
_TICK: Final = 0.001
_WARM_UP_SECONDS: Final = 0.5
_PATIENCE: Final = 120.0
_PAUSE: Final = 0.05
_MOST_TENANTS: Final = 1_000


def at_most(store: str, *, sequenced: bool) -> str:
    """The name of the case that records as fast as it can."""
    return f"{store}: record, {_how(sequenced)}"


def at_half(store: str, *, sequenced: bool) -> str:
    """The name of the case that is offered half of that."""
    return f"{store}: half of that, {_how(sequenced)}"


def waiting(store: str) -> str:
    """The name of the case that measures how long events wait for their checkpoint."""
    return f"{store}: from record to checkpoint"


def _how(sequenced: bool) -> str:  # noqa: FBT001 - it is all there is to say
    return "sequenced" if sequenced else "not sequenced"


def sequencing_cases(directory: Path, server: Postgres | None, seconds: float) -> list[Case]:
    """What is measured over so many seconds each."""
    cases = []
    for store, place in places(directory, server).items():
        load = Load(place, directory / "spools", seconds)
        for name, tasks, measure in (
            (at_most(store, sequenced=False), TASKS, partial(load.most, sequenced=False)),
            (at_most(store, sequenced=True), TASKS, partial(load.most, sequenced=True)),
            (at_half(store, sequenced=False), 1, partial(load.half, sequenced=False)),
            (at_half(store, sequenced=True), 1, partial(load.half, sequenced=True)),
        ):
            cases.append(Case(group=GROUP, name=name, tasks=tasks, measure=measure))
    return cases


def window_cases(
    directory: Path, server: Postgres | None, seconds: float, most_seconds: float
) -> list[Case]:
    """How long events wait, once, over so many seconds of half the load."""
    cases = []
    for store, place in places(directory, server).items():
        load = Load(place, directory / "spools", most_seconds)
        measure = partial(load.window, seconds)
        cases.append(
            Case(group=WINDOW_GROUP, name=waiting(store), tasks=1, measure=measure, once=True)
        )
    return cases


class Load:
    """One store's, each measurement on an empty database."""

    def __init__(self, place: Place, spools: Path, seconds: float) -> None:
        self._place = place
        self._spools = spools
        self._seconds = seconds
        self._most = 0.0

    async def most(self, *, sequenced: bool) -> Round:
        """As many events as a thousand callers can record that wait for each."""
        with self._place() as url:
            async with await self._log(url, sequenced=sequenced) as log:
                call = record_one(log)
                timing = await time_calls(call, tasks=TASKS, seconds=self._seconds)
                behind = await _without_leaf(log)
                found = await count_events(log.store.url)
        if not sequenced:
            self._most = timing.events / timing.seconds
        warm_up = warm_up_calls(TASKS)
        return round_of(
            timing, warm_up=warm_up, found=found, without_leaf=behind if sequenced else None
        )

    async def half(self, *, sequenced: bool) -> Round:
        """Half of that, offered."""
        rate = await self._half()
        with self._place() as url:
            async with await self._log(url, sequenced=sequenced) as log:
                call = record_one(log)
                warm_up = await offer(call, rate, _WARM_UP_SECONDS)
                timing = await offer(call, rate, self._seconds)
                behind = await _without_leaf(log)
                found = await count_events(log.store.url)
        return round_of(
            timing,
            warm_up=warm_up.events,
            found=found,
            without_leaf=behind if sequenced else None,
        )

    async def window(self, seconds: float) -> Round:
        """From when `record` returned to when the first checkpoint over the event was committed."""
        rate = await self._half()
        with self._place() as url:
            async with await self._log(url, sequenced=True) as log:
                seen = _Seen(log)
                timing = await offer(seen.record, rate, seconds)
                await seen.all_published()
                waits = await seen.waits()
                found = await count_events(log.store.url)
        return round_of(Timing(len(waits), timing.seconds, waits), found=found)

    async def _half(self) -> float:
        if not self._most:
            await self.most(sequenced=False)
        return self._most / 2

    async def _log(self, url: str, *, sequenced: bool) -> AuditLog:
        await upgrade(url)
        return AuditLog.open(
            url, sequence=sequenced, signing_keys=[KEY], spool_dir=self._spools, deadline=60.0
        )


async def offer(call: Callable[[], Any], rate: float, seconds: float) -> Timing:
    """Call at that rate, in steps of a millisecond; the time ends with the last call's end."""
    times = array("q")
    total, begun = max(1, int(rate * seconds)), 0
    began = perf_counter_ns()

    async def one(due: int) -> None:
        await call()
        times.append(perf_counter_ns() - due)

    async with asyncio.TaskGroup() as group:
        while begun < total:
            due_by_now = min(total, int((perf_counter_ns() - began) * rate / 1e9) + 1)
            while begun < due_by_now:
                group.create_task(one(began + int(begun * 1e9 / rate)))
                begun += 1
            await asyncio.sleep(_TICK)
    return Timing(total, (perf_counter_ns() - began) / 1e9, times)


class _Seen:
    """When each event was acknowledged, and when each checkpoint was there."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._next = happenings()
        self._acknowledged: dict[bytes, int] = {}
        self._published: dict[str, list[tuple[int, int]]] = {}
        self._trees: Trees = log.store.trees
        self._publish = self._trees.publish
        self._trees.publish = self._timed  # type: ignore[method-assign]

    async def record(self) -> None:
        receipt = await self._log.record(ACTION, **fields_of(self._next()))
        if receipt.durable_in != "store":
            raise WorkMissing("an event went to the spool")
        self._acknowledged[bytes.fromhex(receipt.event_id.replace("-", ""))] = perf_counter_ns()

    async def _timed(self, checkpoints: Sequence[Published]) -> list[str]:
        refused = await self._publish(checkpoints)
        now = perf_counter_ns()
        for each in checkpoints:
            if each.tenant_id not in refused:
                self._published.setdefault(each.tenant_id, []).append((each.tree_size, now))
        return refused

    async def all_published(self) -> None:
        """Wait for the rounds that publish the last of them."""
        async with asyncio.timeout(_PATIENCE):
            while self._covered() < len(self._acknowledged):  # noqa: ASYNC110 - at the store
                await asyncio.sleep(_PAUSE)

    def _covered(self) -> int:
        return sum(checkpoints[-1][0] for checkpoints in self._published.values())

    async def waits(self) -> Sequence[int]:
        """The nanoseconds that each event waited for; 0 where the checkpoint was there first."""
        found = array("q")
        for tenant_id, checkpoints in self._published.items():
            leaf = count()
            newer = iter(checkpoints)
            size, moment = next(newer)
            for number in range(-(-checkpoints[-1][0] // BUNDLE_WIDTH)):
                (bundle,) = await self._trees.bundles(tenant_id, number, 1)
                for start in range(0, len(bundle.event_ids), ID_BYTES):
                    event_id = bundle.event_ids[start : start + ID_BYTES]
                    if next(leaf) >= size:
                        size, moment = next(newer)
                    found.append(max(0, moment - self._acknowledged[event_id]))
        return found


async def _without_leaf(log: AuditLog) -> int:
    trees = await log.store.trees.trees(None, _MOST_TENANTS)
    return await count_events(log.store.url) - sum(tree.tree_size for tree in trees)
