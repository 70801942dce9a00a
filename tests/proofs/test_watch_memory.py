"""What a watcher remembers, and a memory that was damaged."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from muniment.anchors import CheckpointDirectory
from muniment.remembering import Watcher
from muniment.stores import open_store
from tests.proofs.live import extend
from tests.proofs.rewriting import rewrite
from tests.proofs.trails import LOG_KEY
from tests.proofs.watching import kinds, look
from tests.scripted import LONG

_ORIGIN = LOG_KEY.for_tenant("acme").name


@pytest.fixture
def memory(tmp_path: Path) -> CheckpointDirectory:
    """A memory in which nothing is remembered yet."""
    return CheckpointDirectory(tmp_path / "memory")


async def test_a_log_that_did_not_grow_is_remembered_once(
    log_url: str, memory: CheckpointDirectory
) -> None:
    """Looking again and again fills no disk."""
    await extend(log_url, 3)
    for _ in range(3):
        assert await look(log_url, memory, ["acme"]) == []
    assert memory.sizes(_ORIGIN) == [3]


async def test_a_memory_that_is_damaged_is_found(log_url: str, memory: CheckpointDirectory) -> None:
    """The file is named; the rest is looked at all the same."""
    await extend(log_url, 3)
    await look(log_url, memory)
    (file,) = (p for p in memory.path.rglob("*") if p.is_file())
    file.write_text("nothing of the kind\n")
    findings = await look(log_url, memory)
    assert kinds(findings) == [("acme", "memory", 3, None)]
    assert str(file) in findings[0].problem


async def test_an_anchors_directory_is_a_memory(
    log_url: str, memory: CheckpointDirectory, tmp_path: Path
) -> None:
    """What was anchored is held against the log, and the directory is not written."""
    anchored = CheckpointDirectory(tmp_path / "anchored")
    published = await extend(log_url, 5)
    assert published is not None
    anchored.keep(published.note)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await extend(other, 9)
    assert kinds(await look(other, memory, anchors=[anchored])) == [("acme", "fork", 5, 9)]
    assert await look(log_url, memory, anchors=[anchored]) == []
    assert (anchored.sizes(_ORIGIN), memory.sizes(_ORIGIN)) == ([5], [5])


async def test_what_is_no_file_is_told_and_hides_nothing(
    sqlite_url: str, memory: CheckpointDirectory
) -> None:
    """Whoever writes to the memory can't hang a watch, nor hide what is wrong elsewhere."""
    await extend(sqlite_url, 3)
    assert await look(sqlite_url, memory) == []
    directory = memory.path / quote(_ORIGIN, safe="")
    os.mkfifo(directory / f"{1:020d}")
    (directory / f"{2:020d}").mkdir()
    (memory.path / "a+").symlink_to(memory.path)
    (memory.path / "b+").symlink_to(memory.path)
    rewrite(sqlite_url, "UPDATE muniment_tiles SET hashes = zeroblob(96) WHERE tenant_id = 'acme'")
    findings = await asyncio.wait_for(look(sqlite_url, memory), LONG)
    assert [(f.kind, f.remembered_size) for f in findings] == [
        ("memory", 1),
        ("memory", 2),
        ("tree", None),
    ]


@pytest.mark.parametrize("is_loop", [False, True])
async def test_what_is_no_directory_hides_no_other_tenant(
    sqlite_url: str, memory: CheckpointDirectory, tmp_path: Path, *, is_loop: bool
) -> None:
    """Whoever writes to an anchor's directory can spoil one tenant's place, and is told of that."""
    await extend(sqlite_url, 3)
    await extend(sqlite_url, 3, tenant_id="beta")
    assert await look(sqlite_url, memory) == []
    anchored = tmp_path / "anchored"
    anchored.mkdir()
    place = anchored / quote(_ORIGIN, safe="")
    if is_loop:
        place.symlink_to(place)
    else:
        place.write_text("no directory")
    rewrite(sqlite_url, "UPDATE muniment_tiles SET hashes = zeroblob(96) WHERE tenant_id = 'beta'")
    anchors = [CheckpointDirectory(anchored)]
    findings = await look(sqlite_url, memory, anchors=anchors)
    assert [(f.tenant_id, f.kind) for f in findings] == [("acme", "memory"), ("beta", "tree")]


async def test_what_is_seen_for_the_first_time_is_counted(
    sqlite_url: str, memory: CheckpointDirectory
) -> None:
    """A memory that is not where it was has nothing to compare with, and that is said."""
    await extend(sqlite_url, 3)
    store = open_store(sqlite_url)
    await store.open()
    seen = []
    for _ in range(2):
        watcher = Watcher(store.trees, memory, [LOG_KEY.verifier])
        await watcher.look()
        seen.append(watcher.first_seen)
    await store.close()
    assert seen == [1, 0]
