"""What the numbers depend on: the machine, its load, its disk, and the versions of the programs."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import perf_counter
from typing import Final

import msgspec

_PACKAGES: Final = ("SQLAlchemy", "asyncpg", "msgspec", "structlog", "loguru")
_SYNCS: Final = 50


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine is, and how busy it was with other things before the run."""

    cores: int
    load_before: float
    system: str
    python: str
    sqlite: str
    fsync_microseconds: int
    packages: str


def describe_machine(directory: Path) -> Machine:
    """This machine; `directory` is where the SQLite files lie."""
    return Machine(
        cores=os.cpu_count() or 0,
        load_before=round(os.getloadavg()[0], 2),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        fsync_microseconds=round(_fsync_seconds(directory) * 1e6),
        packages=", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    )


def _fsync_seconds(directory: Path) -> float:
    """What it takes to write 4 KiB durably: nothing on a disk in memory."""
    times = []
    with NamedTemporaryFile(dir=directory) as file:
        for _ in range(_SYNCS):
            began = perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(perf_counter() - began)
    return statistics.median(times)
