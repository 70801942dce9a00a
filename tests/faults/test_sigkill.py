"""SIGKILL: of a process that records, of one that drains its spool, of two that share a file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

import pytest

from tests.faults.oracle import Oracle, Submission, oracle_of
from tests.faults.proxy import Proxy
from tests.faults.recording import Recording, recording
from tests.faults.tally import Rounds, Tally

_LEAST = 400
_SPOOLED = 5000
_PATIENCE = 30.0
_PAUSE = 0.005
_FEW = 100
_A_BATCH = 0.03


@pytest.mark.timeout(1200)
async def test_what_was_acknowledged_survives_sigkill(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """Every event whose `record` had returned is there, once, each time a process is killed.

    That is at a random moment under the load of 16 tasks, after at least 400 acknowledgements.
    """
    random = Random(20)  # noqa: S311 - moments, not secrets
    told: dict[str, str] = {}
    submitted: set[Submission] = set()
    async with oracle_of(log_url) as oracle:
        for n in range(rounds(20, 200)):
            async with recording(log_url, f"r{n}", spool_dir=tmp_path / "spool") as process:
                await process.acknowledges(_LEAST + random.randrange(_LEAST))
                await process.kill()
            told |= process.told
            submitted |= process.submitted
            verdict = await oracle.verdict(process.told_in("store"), submitted)
            tally.add("SIGKILL while recording", log_url, verdict)

    await _drain_the_rest(log_url, tmp_path / "spool")
    async with oracle_of(log_url) as oracle:
        assert (await oracle.verdict(told, submitted)).clean


@pytest.mark.timeout(1200)
async def test_a_spool_survives_the_sigkill_of_who_drains_it(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """What was acknowledged in the spool comes into the store, once, whoever is killed over it.

    The process that spooled it is, once some of it is in the store, and so is the next one, which
    took it over; the third is left alone.
    """
    random = Random(21)  # noqa: S311 - moments, not secrets
    spool = tmp_path / "spool"
    submitted: set[Submission] = set()
    least, cut_short = rounds(3, 30), 0
    async with oracle_of(log_url) as oracle:
        for n in range(10 * least):
            if n >= least and cut_short:
                break  # a drain that is quicker than we are is none that was killed
            async with _barred(log_url) as (url, let_in):
                async with recording(url, f"r{n}", spool_dir=spool, deadline=0.1) as process:
                    await process.acknowledges(_SPOOLED, "spool")
                    let_in()
                    await _kill_mid_drain(process, oracle, random)
                cut_short += len(process.told.keys() - oracle.event_ids) > 0
                async with recording(url, "", spool_dir=spool, tasks=0) as heir:
                    await _kill_mid_drain(heir, oracle, random)
                await _drain_the_rest(url, spool)
            submitted |= process.submitted
            verdict = await oracle.verdict(process.told, submitted)
            tally.add("SIGKILL while draining the spool", log_url, verdict)

    assert cut_short > 0
    async with oracle_of(log_url) as oracle:
        assert (await oracle.verdict((), submitted)).clean


@pytest.mark.timeout(1200)
async def test_processes_that_share_a_sqlite_file_survive_each_other(
    sqlite_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """Of two that record in one file, one is killed and the other goes on; or both are killed.

    The one that is left still records in the store, and what both had acknowledged is there, once.
    """
    random = Random(22)  # noqa: S311 - moments, not secrets
    spool = tmp_path / "spool"
    told: dict[str, str] = {}
    submitted: set[Submission] = set()
    async with oracle_of(sqlite_url) as oracle:
        for n in range(rounds(5, 50)):
            async with (
                recording(sqlite_url, f"r{n} one", spool_dir=spool) as one,
                recording(sqlite_url, f"r{n} two", spool_dir=spool) as two,
            ):
                await asyncio.gather(
                    one.acknowledges(random.randrange(_LEAST), "store"),
                    two.acknowledges(random.randrange(_LEAST), "store"),
                )
                if n % 2 == 0:
                    await one.kill()
                    await two.acknowledges(_LEAST, "store")
                    await two.finish()
                else:
                    await asyncio.gather(one.kill(), two.kill())
            told |= one.told | two.told
            submitted |= one.submitted | two.submitted
            verdict = await oracle.verdict(one.told_in("store") + two.told_in("store"), submitted)
            fault = "SIGKILL of both who share a file" if n % 2 else "SIGKILL of one of two"
            tally.add(fault, sqlite_url, verdict)

    await _drain_the_rest(sqlite_url, spool)
    async with oracle_of(sqlite_url) as oracle:
        assert (await oracle.verdict(told, submitted)).clean


async def _kill_mid_drain(process: Recording, oracle: Oracle, random: Random) -> None:
    """SIGKILL within a few batches of the moment at which the first of a spool are stored."""
    await oracle.look()
    before = len(oracle.event_ids)
    async with asyncio.timeout(_PATIENCE):
        # A few may come from a call that was given up as late, and are stored all the same.
        while len(oracle.event_ids) < before + _FEW and process.runs:
            await asyncio.sleep(_PAUSE)
            await oracle.look()
    await asyncio.sleep(random.random() * _A_BATCH)
    await process.kill()
    await oracle.look()


async def _drain_the_rest(url: str, spool: Path) -> None:
    """What a process does that merely starts and ends: it adopts what the killed ones left."""
    async with recording(url, "", spool_dir=spool, tasks=0) as process:
        await process.finish()


@asynccontextmanager
async def _barred(url: str) -> AsyncIterator[tuple[str, Callable[[], object]]]:
    """The URL of the store, in which nothing can be recorded until the function is called."""
    if url.startswith("sqlite"):
        file = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield url, lambda: connection.execute("ROLLBACK")
    else:
        async with Proxy(url) as proxy:
            proxy.turn_away()
            yield proxy.url, proxy.pass_on
