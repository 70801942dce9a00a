"""A connection cut between COMMIT and its answer: failed, but stored."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.oracle import Oracle, Submission, oracle_of
from tests.faults.proxy import Proxy
from tests.faults.recording import recording
from tests.faults.tally import Rounds, Tally

_SOME = 200
_PATIENCE = 30.0
_PAUSE = 0.02


@pytest.mark.timeout(600)
@pytest.mark.parametrize("copy", [True, False], ids=["COPY", "INSERT"])
async def test_what_failed_but_was_stored_is_stored_once(
    postgres_log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally, *, copy: bool
) -> None:
    """Where the answer to a COMMIT is lost, events go to the spool, and are stored once.

    In each round every answer to a COMMIT is cut off, until some events whose callers were told
    that they are in the spool turn out to be in the store. Then all pass, the spool is
    drained, and events go to the store again.
    """
    fault = "connection cut behind COMMIT"
    submitted: set[Submission] = set()
    async with Proxy(postgres_log_url) as proxy, oracle_of(postgres_log_url) as oracle:
        for n in range(rounds(3, 25)):
            async with recording(
                *(proxy.url, f"r{n}"), spool_dir=tmp_path / "spool", store_options={"copy": copy}
            ) as process:
                await process.acknowledges(_SOME, "store")
                proxy.cut_answers()
                await process.acknowledges(_SOME, "spool")
                await _sees_some(oracle, process.told_in("spool"))
                proxy.pass_on()
                await process.acknowledges(_SOME, "store")
                await process.finish()
            submitted |= process.submitted
            tally.add(fault, postgres_log_url, await oracle.verdict(process.told, submitted))


async def _sees_some(oracle: Oracle, event_ids: list[str]) -> None:
    """Return once some are in the store: any transaction of another may hold up what is read."""
    async with asyncio.timeout(_PATIENCE):
        await oracle.look()
        while not oracle.event_ids & event_ids:
            await asyncio.sleep(_PAUSE)
            await oracle.look()
