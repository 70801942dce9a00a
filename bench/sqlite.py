"""SQLite: `record` and `record_many`, each on a file of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.measuring import Case, Round, Timing, round_of
from bench.recording import (
    LIST_LENGTH,
    record_one,
    seconds_to_index,
    time_calls,
    time_lists,
    warm_up_calls,
)
from muniment import AuditLog

RECORD: Final = "record"
RECORD_MANY: Final = f"record_many, {LIST_LENGTH:,} at a time"
_LISTS: Final = 20
_Time = Callable[[AuditLog], Awaitable[tuple[Timing, int]]]


def sqlite_cases(directory: Path, seconds: float) -> list[Case]:
    """What is measured on files in that directory."""

    async def one_by_one(tasks: int, log: AuditLog) -> tuple[Timing, int]:
        timing = await time_calls(record_one(log), tasks=tasks, seconds=seconds)
        return timing, warm_up_calls(tasks)

    async def in_lists(log: AuditLog) -> tuple[Timing, int]:
        return await time_lists(log, _LISTS if seconds >= 1 else 1), LIST_LENGTH

    def case(name: str, tasks: int, time: _Time) -> Case:
        measure = partial(_measure, directory, time)
        return Case(group="sqlite", name=name, tasks=tasks, measure=measure)

    return [
        case(RECORD, 1, partial(one_by_one, 1)),
        case(RECORD, 16, partial(one_by_one, 16)),
        case(RECORD_MANY, 1, in_lists),
    ]


async def _measure(directory: Path, time: _Time) -> Round:
    with TemporaryDirectory(dir=directory) as fresh:
        file = Path(fresh) / "audit.db"
        async with AuditLog.open(f"sqlite:///{file}") as log:
            timing, warm_up = await time(log)
            index_seconds = await seconds_to_index(log)
        found = count_events(file)
    return round_of(timing, warm_up=warm_up, found=found, index_seconds=index_seconds)


def count_events(file: Path) -> int:
    """How many events are in that SQLite file."""
    with closing(sqlite3.connect(file)) as connection:
        counted: int = connection.execute("SELECT count(*) FROM muniment_events").fetchone()[0]
        return counted
