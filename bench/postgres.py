"""PostgreSQL: the seed's pattern, `record`, and COPY, each on a database of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    warm_up_calls,
)
from bench.seed import seed_writer
from bench.workload import event_of, happenings
from muniment import AuditLog
from muniment.sealing import Sealer
from muniment.stores import open_store
from muniment.stores.postgres.append import COLUMNS, columns_of
from tests.servers.postgres import URL_VARIABLE, Postgres, PostgresServer, find_binaries

TASKS: Final = (1, 16, 1_000)
SEED: Final = "the seed's pattern"
RECORD: Final = "record"
COPY: Final = f"COPY, {LIST_LENGTH:,} at a time"
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
_COUNT_EVENTS: Final = "SELECT count(*) FROM muniment.events"


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
    copy = partial(_measure_copy, server, _COPY_BATCHES if seconds >= 1 else 1)
    return [*cases, Case(group="postgres", name=COPY, tasks=1, measure=copy)]


@contextmanager
def _fresh_database(server: Postgres) -> Iterator[str]:
    """The URL of an empty database, on a server with nothing left to write for others."""
    name = server.create_database()
    try:
        server.psql("CHECKPOINT")
        yield server.url(name)
    finally:
        server.drop_database(name)


async def _count(url: str, statement: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        counted: int = await connection.fetchval(statement)
        return counted
    finally:
        await connection.close()


async def _measure_seed(server: Postgres, tasks: int, seconds: float) -> Round:
    next_happening = happenings()
    with _fresh_database(server) as url:
        async with seed_writer(url) as write:

            async def call() -> int:
                await write(next_happening())
                return 1

            timing = await time_calls(call, tasks=tasks, seconds=seconds)
        found = await _count(url, "SELECT count(*) FROM audit_logs")
    return round_of(timing, warm_up=warm_up_calls(tasks), found=found)


async def _measure_record(server: Postgres, spools: Path, tasks: int, seconds: float) -> Round:
    with _fresh_database(server) as url:
        await _upgrade(url)
        async with AuditLog.open(url, spool_dir=spools) as log:
            timing = await time_calls(record_one(log), tasks=tasks, seconds=seconds)
            index_seconds = await seconds_to_index(log)
        found = await _count(url, _COUNT_EVENTS)
    warm_up = warm_up_calls(tasks)
    return round_of(timing, warm_up=warm_up, found=found, index_seconds=index_seconds)


async def _measure_copy(server: Postgres, batches: int) -> Round:
    rows = _sealed_rows(batches * LIST_LENGTH)
    times = []
    with _fresh_database(server) as url:
        await _upgrade(url)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SELECT muniment.ensure_partition($1)", datetime.now(UTC))
            for start in range(0, len(rows), LIST_LENGTH):
                batch = rows[start : start + LIST_LENGTH]
                before = perf_counter_ns()
                await connection.copy_records_to_table(
                    "events", schema_name="muniment", columns=COLUMNS, records=batch
                )
                times.append(perf_counter_ns() - before)
        finally:
            await connection.close()
        found = await _count(url, _COUNT_EVENTS)
    return round_of(Timing(len(rows), sum(times) / 1e9, times), found=found)


def _sealed_rows(count: int) -> list[tuple[Any, ...]]:
    sealer, next_happening = Sealer(), happenings()
    return [columns_of(sealer.seal(event_of(next_happening()))) for _ in range(count)]


async def _upgrade(url: str) -> None:
    store = open_store(url)
    await store.upgrade()
    await store.close()
