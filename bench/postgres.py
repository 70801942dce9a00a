"""PostgreSQL: the seed's pattern, `record`, and COPY, each on a database of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import asyncpg

from bench.measuring import Case, Round, Timing, round_of
from bench.recording import (
    LIST_LENGTH,
    record_one,
    seconds_to_index,
    time_calls,
    time_lists,
    warm_up_calls,
)
from bench.seed import seed_writer
from bench.workload import ACTION, fields_of, happenings
from muniment import AuditLog
from muniment.sealing import Sealer
from muniment.stores import open_store
from muniment.stores.base import Sealed
from muniment.stores.postgres.append import COLUMNS, columns_of
from tests.servers.postgres import URL_VARIABLE, Postgres, PostgresServer, find_binaries

TASKS: Final = (1, 16, 1_000)
SEED: Final = "the seed's pattern"
RECORD: Final = "record"
COPY: Final = f"COPY, {LIST_LENGTH:,} at a time"
APPEND: Final = f"append, {LIST_LENGTH:,} at a time"
RECORD_MANY: Final = f"record_many, {LIST_LENGTH:,} at a time"
LISTS_AT_ONCE: Final = 4
_SETTINGS: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_connections",
)
_COPY_BATCHES: Final = 20
COUNT_EVENTS: Final = "SELECT count(*) FROM muniment.events"


@contextmanager
def running_server() -> Iterator[Postgres]:
    """The server that the environment names, else one of our own, with fsync on."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield Postgres(given, find_binaries())
    else:
        with PostgresServer() as server:
            yield server


def settings_of(server: Postgres) -> dict[str, str]:
    """The server's version, and its settings that decide on speed and durability."""
    shown = server.psql("".join(f"SHOW {name};" for name in _SETTINGS)).stdout.splitlines()
    return dict(zip(_SETTINGS, shown, strict=True))


def postgres_cases(server: Postgres, spools: Path, seconds: float) -> list[Case]:
    """What is measured on that server; `spools` is a directory for the logs' spools."""
    cases = []
    for tasks in TASKS:
        for name, measure in (
            (SEED, partial(_measure_seed, server, tasks, seconds)),
            (RECORD, partial(_measure_record, server, spools, tasks, seconds)),
        ):
            cases.append(Case(group="postgres", name=name, tasks=tasks, measure=measure))
    batches = _COPY_BATCHES if seconds >= 1 else 1
    for name, tasks, bulk in (
        (RECORD_MANY, LISTS_AT_ONCE, partial(_measure_record_many, server, spools, batches)),
        (COPY, 1, partial(_measure_copy, server, batches)),
        (APPEND, 1, partial(_measure_append, server, batches)),
    ):
        cases.append(Case(group="postgres", name=name, tasks=tasks, measure=bulk))
    return cases


@contextmanager
def fresh_database(server: Postgres) -> Iterator[str]:
    """The URL of an empty database, on a server with nothing left to write for others."""
    name = server.create_database()
    try:
        server.psql("CHECKPOINT")
        yield server.url(name)
    finally:
        server.drop_database(name)


async def count(url: str, statement: str) -> int:
    """What that statement counts in that database."""
    connection = await asyncpg.connect(url)
    try:
        counted: int = await connection.fetchval(statement)
        return counted
    finally:
        await connection.close()


async def _measure_seed(server: Postgres, tasks: int, seconds: float) -> Round:
    next_happening = happenings()
    with fresh_database(server) as url:
        async with seed_writer(url) as write:

            async def call() -> int:
                await write(next_happening())
                return 1

            timing = await time_calls(call, tasks=tasks, seconds=seconds)
        found = await count(url, "SELECT count(*) FROM audit_logs")
    return round_of(timing, warm_up=warm_up_calls(tasks), found=found)


async def _measure_record(server: Postgres, spools: Path, tasks: int, seconds: float) -> Round:
    with fresh_database(server) as url:
        await upgrade(url)
        async with AuditLog.open(url, spool_dir=spools) as log:
            timing = await time_calls(record_one(log), tasks=tasks, seconds=seconds)
            index_seconds = await seconds_to_index(log)
        found = await count(url, COUNT_EVENTS)
    warm_up = warm_up_calls(tasks)
    return round_of(timing, warm_up=warm_up, found=found, index_seconds=index_seconds)


async def _measure_record_many(server: Postgres, spools: Path, batches: int) -> Round:
    with fresh_database(server) as url:
        await upgrade(url)
        async with AuditLog.open(url, spool_dir=spools) as log:
            timing = await time_lists(log, batches, at_once=LISTS_AT_ONCE)
            index_seconds = await seconds_to_index(log)
        found = await count(url, COUNT_EVENTS)
    return round_of(timing, warm_up=LIST_LENGTH, found=found, index_seconds=index_seconds)


async def _measure_copy(server: Postgres, batches: int) -> Round:
    rows = [columns_of(event) for event in _sealed(batches * LIST_LENGTH)]
    with fresh_database(server) as url:
        await upgrade(url)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SELECT muniment.ensure_partition($1)", datetime.now(UTC))

            async def copy(batch: list[Any]) -> None:
                await connection.copy_records_to_table(
                    "events", schema_name="muniment", columns=COLUMNS, records=batch
                )

            timing = await _time_batches(copy, rows)
        finally:
            await connection.close()
        found = await count(url, COUNT_EVENTS)
    return round_of(timing, found=found)


async def _measure_append(server: Postgres, batches: int) -> Round:
    events = _sealed(batches * LIST_LENGTH)
    with fresh_database(server) as url:
        await upgrade(url)
        store = open_store(url)
        await store.open()
        try:
            timing = await _time_batches(store.append, events)
        finally:
            await store.close()
        found = await count(url, COUNT_EVENTS)
    return round_of(timing, found=found)


async def _time_batches(call: Callable[[list[Any]], Awaitable[object]], items: list[Any]) -> Timing:
    times = []
    for start in range(0, len(items), LIST_LENGTH):
        batch = items[start : start + LIST_LENGTH]
        before = perf_counter_ns()
        await call(batch)
        times.append(perf_counter_ns() - before)
    return Timing(len(items), sum(times) / 1e9, times)


def _sealed(count: int) -> list[Sealed]:
    sealer, next_happening = Sealer(), happenings()
    return [sealer.seal_call(ACTION, dict(fields_of(next_happening()))) for _ in range(count)]


async def upgrade(url: str) -> None:
    """Bring the schema into that database."""
    store = open_store(url)
    await store.upgrade()
    await store.close()
