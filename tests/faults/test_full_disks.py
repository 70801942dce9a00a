"""Disks that are full, and directories that may not be written to."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commanding import Commanded, commanded, judged
from tests.faults.disks import Disk, small_disk
from tests.faults.oracle import Oracle
from tests.faults.tally import Tally

_AT_ONCE = 50
_AT_MOST = 200
_READ_ONLY = 0o555
_WRITABLE = 0o755


@pytest.fixture(params=["limited files", "small disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A disk to be filled: by a limit on files everywhere, a real small one where we are root."""
    if request.param == "limited files":
        yield Disk(tmp_path)
    else:
        with small_disk(tmp_path / "small") as disk:
            yield disk


@pytest.fixture
def directories() -> Iterator[tuple[Path, Path]]:
    """Two empty ones, for a store and for a spool, of the user that processes without root are."""
    with tempfile.TemporaryDirectory() as name:
        data, spool = Path(name, "data"), Path(name, "spool")
        for directory in (data, spool):
            directory.mkdir()
            if os.geteuid() == 0:
                os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
        Path(name).chmod(0o755)
        yield data, spool


async def _record_until_all(process: Commanded, place: str) -> None:
    """Record until all that is recorded goes to a place."""
    for _ in range(_AT_MOST):
        places, _ = await process.record(_AT_ONCE)
        if set(places) == {place}:
            return
    raise AssertionError(f"never {place}: {set(process.told.values())}")


def _counted(oracle: Oracle) -> int:
    """How many events are lost by the log's own account."""
    return sum(loss["details"]["count"] for loss in oracle.losses)


async def test_a_full_disk_under_the_store_costs_nothing(
    disk: Disk, tmp_path: Path, tally: Tally
) -> None:
    """While the store has no room events are kept in the spool, and drained once it has."""
    url = f"sqlite:///{disk.path}/audit.db"
    async with commanded(url, spool_dir=tmp_path / "spool") as process:
        await _record_until_all(process, "store")
        await disk.fill(process, spool_elsewhere=True)
        await _record_until_all(process, "spool")
        await disk.make_room(process)
        await process.record(_AT_ONCE)
        await process.drained()
        await process.end()

    verdict, oracle = await judged(url, process)
    tally.add("disk full under the store", url, verdict)
    assert (process.lost, oracle.losses) == ([], [])


async def test_what_a_full_disk_keeps_nowhere_is_told_and_counted(disk: Disk, tally: Tally) -> None:
    """When neither store nor spool has room, callers get `NotDurable`, and nothing else is lost.

    Once there is room recording goes on, and the log's own account has each of these events.
    """
    url = f"sqlite:///{disk.path}/audit.db"
    async with commanded(url, spool_dir=disk.path / "spool") as process:
        await _record_until_all(process, "store")
        await disk.fill(process)
        await _record_until_all(process, "NotDurable")
        await disk.make_room(process)
        await _record_until_all(process, "store")
        stats = await process.drained()
        await process.end()

    verdict, oracle = await judged(url, process)
    tally.add("disk full under store and spool", url, verdict)
    assert stats["recorded"]["dropped"] == _counted(oracle) == len(process.lost)
    assert not set(process.lost) & set(oracle.event_ids)


async def test_a_process_killed_on_a_full_disk_leaves_what_it_acknowledged(
    disk: Disk, tally: Tally
) -> None:
    """What it had kept until the disk was full is there for the next process, which has room."""
    url = f"sqlite:///{disk.path}/audit.db"
    async with commanded(url, spool_dir=disk.path / "spool") as process:
        await _record_until_all(process, "store")
        await disk.fill(process)
        await _record_until_all(process, "NotDurable")
        await process.kill()
    await disk.make_room(None)
    async with commanded(url, spool_dir=disk.path / "spool") as following:
        await following.drained()
        await following.end()

    verdict, oracle = await judged(url, process)
    tally.add("SIGKILL on a full disk", url, verdict)
    assert not set(process.lost) & set(oracle.event_ids)


async def test_a_read_only_directory_of_the_store_costs_nothing(
    directories: tuple[Path, Path], tally: Tally
) -> None:
    """Where the store may not be written, events are kept in the spool until it may."""
    data, spool = directories
    url = f"sqlite:///{data}/audit.db"
    async with commanded(url, spool_dir=spool, without_root=True) as before:
        await _record_until_all(before, "store")
        await before.end()
    data.chmod(_READ_ONLY)
    async with commanded(url, spool_dir=spool, without_root=True) as process:
        await _record_until_all(process, "spool")
        data.chmod(_WRITABLE)
        await process.drained()
        await process.end()

    verdict, oracle = await judged(url, before, process)
    tally.add("read-only directory of the store", url, verdict)
    assert (process.lost, oracle.losses) == ([], [])


async def test_what_read_only_directories_keep_nowhere_is_told_and_counted(
    directories: tuple[Path, Path], tally: Tally
) -> None:
    """Where neither store nor spool may be written, callers get `NotDurable`, until one may."""
    data, spool = directories
    url = f"sqlite:///{data}/audit.db"
    for directory in directories:
        directory.chmod(_READ_ONLY)
    async with commanded(url, spool_dir=spool, without_root=True) as process:
        await _record_until_all(process, "NotDurable")
        spool.chmod(_WRITABLE)
        await _record_until_all(process, "spool")
        data.chmod(_WRITABLE)
        await process.drained()
        await process.end()

    verdict, oracle = await judged(url, process)
    tally.add("read-only directories of store and spool", url, verdict)
    assert _counted(oracle) == len(process.lost)
