from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from muniment import AuditLog
from muniment.anchors import CheckpointDirectory
from muniment.checkpoint import cosignatures
from muniment.stores import open_store
from tests.proofs.trails import LOG_KEY, WITNESS_KEY
from tests.proofs.witness_process import running_witness

_T = TypeVar("_T")
_ORIGIN = LOG_KEY.for_tenant("acme").name


async def _eventually(look: Callable[[], Awaitable[_T]], is_so: Callable[[_T], bool]) -> _T:
    """What `look` gives once it is so; the test's own timeout is the bound."""
    while not is_so(found := await look()):  # noqa: ASYNC110 - what is looked at is elsewhere
        await asyncio.sleep(0.01)
    return found


async def test_a_logs_checkpoints_bear_the_witness_s_cosignature(
    log_url: str, tmp_path: Path
) -> None:
    """Each newest one, as the log grows and is opened anew; a real witness gives them."""
    store = open_store(log_url)
    with running_witness(tmp_path) as process:
        anchors = [f"witness+{process.url}#{process.vkey}"]
        for count in (1, 2, 3):
            async with AuditLog.open(
                log_url, sequence_interval=0.01, signing_keys=[LOG_KEY], anchors=anchors
            ) as log:
                await log.record("login", tenant_id="acme")
                found = await _eventually(
                    lambda: store.trees.checkpoint("acme"),
                    lambda c: (
                        c is not None
                        and c.tree_size == count  # noqa: B023 - called in this round
                        and bool(cosignatures(c.note, [WITNESS_KEY.verifier]))
                    ),
                )
            assert found is not None
            assert found.note.startswith(f"{_ORIGIN}\n{count}\n")
        codes = [each["code"] for each in process.decisions()]
    # A newly opened log knows by its store where the witness is.
    assert codes.count(200) >= 3
    await store.close()


async def test_a_hung_witness_keeps_no_checkpoint_from_a_directory(
    sqlite_url: str, tmp_path: Path
) -> None:
    """It takes connections and never answers; the directory has each checkpoint all the same."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    directory = CheckpointDirectory(tmp_path / "anchored")

    async def sizes() -> list[int]:
        return await asyncio.to_thread(directory.sizes, _ORIGIN)

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        vkey = WITNESS_KEY.verifier.text()
        anchors = [f"witness+http://127.0.0.1:{port}#{vkey}", f"dir:{directory.path}"]
        async with AuditLog.open(
            sqlite_url, sequence_interval=0.01, signing_keys=[LOG_KEY], anchors=anchors
        ) as log:
            for count in (1, 2, 3):
                await log.record("login", tenant_id="acme")
                await _eventually(sizes, lambda found: count in found)  # noqa: B023 - this round
