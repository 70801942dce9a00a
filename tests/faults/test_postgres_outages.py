"""A PostgreSQL that crashes, and one that ends our sessions, under a process that lives on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from muniment.stores import open_store
from tests.faults.oracle import oracle_of
from tests.faults.recording import recording
from tests.faults.tally import Rounds, Tally
from tests.servers.postgres import PostgresServer

_SOME = 500
_EVERY = 0.1
_PATIENCE = 300.0
_OUR_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = $1 AND pid <> pg_backend_pid()"
)


@pytest.mark.timeout(600)
async def test_a_crash_of_postgresql_costs_nothing(
    private_postgres: PostgresServer, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """While the server is down events go to the spool, and into the store once it has recovered.

    It is stopped in immediate mode under load. What was acknowledged before, meanwhile and after
    is there, once.
    """
    url = private_postgres.url()
    store = open_store(url)
    await store.upgrade()
    await store.close()
    crashes = rounds(2, 10)
    async with recording(url, "crashes", spool_dir=tmp_path / "spool") as process:
        await process.acknowledges(_SOME, "store")
        for _ in range(crashes):
            await asyncio.to_thread(private_postgres.stop_immediately)
            await process.acknowledges(_SOME, "spool")
            await asyncio.to_thread(private_postgres.start)
            await process.acknowledges(_SOME, "store")
        await process.finish()

    async with oracle_of(url) as oracle:
        verdict = await oracle.verdict(process.told, process.submitted)
        tally.add("PostgreSQL stopped in immediate mode", url, verdict, crashes)


@pytest.mark.timeout(600)
async def test_sessions_may_be_ended_at_any_time(
    postgres_log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """All our sessions are ended ten times a second, and every acknowledged event is there, once.

    Recording never fails for it. A round is one in which there was a session to end.
    """
    times = rounds(10, 100)
    database = make_url(postgres_log_url).database
    superuser = await asyncpg.connect(
        make_url(postgres_log_url).set(database="postgres").render_as_string(hide_password=False)
    )
    ended = 0
    async with recording(postgres_log_url, "ended", spool_dir=tmp_path / "spool") as process:
        await process.acknowledges(_SOME, "store")
        async with asyncio.timeout(_PATIENCE):
            while ended < times:
                ended += bool(await superuser.fetch(_OUR_SESSIONS, database))
                await asyncio.sleep(_EVERY)
        await process.finish()
    await superuser.close()

    async with oracle_of(postgres_log_url) as oracle:
        verdict = await oracle.verdict(process.told, process.submitted)
        tally.add("sessions ended every 100 ms", postgres_log_url, verdict, ended)
