"""Disks that can be full: a real one that is small, and a limit on the size of files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.faults.commanding import Commanded

_SIZE: Final = 16 * 2**20
_LEFT: Final = 200_000
"""Bytes: less than a write-ahead log may hold, more than a few dozen events in the spool."""


class Disk:
    """A directory in which there is room for files until there is none, but by raising a limit."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def fill(self, process: Commanded, *, spool_elsewhere: bool = False) -> None:
        """Leave (next to) no room, except for a spool that is elsewhere."""
        await process.limit(_LEFT if spool_elsewhere else 0)

    async def make_room(self, process: Commanded | None) -> None:
        """Let files grow again."""
        if process is not None:
            await process.limit(None)


class SmallDisk(Disk):
    """A file system of its own."""

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    async def fill(self, process: Commanded, *, spool_elsewhere: bool = False) -> None:
        """Leave next to no room here."""
        del process, spool_elsewhere
        room = os.statvfs(self.path)
        self._ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - _LEFT))

    async def make_room(self, process: Commanded | None) -> None:
        """Free some space."""
        del process
        self._ballast.unlink()


@contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """A small file system at `path`, or a limit on files where we may not mount one."""
    path.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    options = ("-t", "tmpfs", "-o", f"size={_SIZE}", "muniment-test")
    if mount is None or umount is None or _fails(mount, *options, path):
        yield Disk(path)
        return
    try:
        yield SmallDisk(path)
    finally:
        assert not _fails(umount, path)


def _fails(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0
