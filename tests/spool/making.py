"""What tests of the spool share: numbered events, and real processes that spool and die."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from muniment.sealing import Sealer
from muniment.spool import Spool
from muniment.stores.base import Sealed

_SEALER = Sealer()


def sealed(number: int, *, text: str = "", tenant_id: str = "acme") -> Sealed:
    """A sealed event that carries a number."""
    details = {"n": number, "text": text}
    return _SEALER.seal_call("spool.test", {"tenant_id": tenant_id, "details": details})


def sealed_many(count: int) -> list[Sealed]:
    """Events numbered from 0 on."""
    return [sealed(n) for n in range(count)]


def number_of(event: Sealed) -> int:
    """The number that an event carries."""
    return int(msgspec.json.decode(event.body)["details"]["n"])


def numbers(events: Sequence[Sealed]) -> list[int]:
    """The numbers that the events carry."""
    return [number_of(event) for event in events]


def drain(spool: Spool, at_once: int = 100) -> list[Sealed]:
    """All that is in the spool, acknowledged."""
    drained: list[Sealed] = []
    while events := spool.peek(at_once):
        drained += events
        spool.acknowledge(len(events))
    return drained


def segments_in(directory: Path) -> list[Path]:
    """The segment files of all process instances, in order."""
    return sorted(directory.glob("*/*.segment"))


def damaged_in(directory: Path) -> list[bytes]:
    """The contents of what was set aside as damaged, in order of their names."""
    return [path.read_bytes() for path in sorted((directory / "damaged").glob("*"))]


@contextmanager
def process(script: str, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A real Python process that runs `script`, which finds the spool's directory as `directory`.

    Its output is read line by line; at the end of the block it is killed by SIGKILL.
    """
    prelude = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from muniment.spool import Spool\n"
        "from tests.spool.making import sealed, sealed_many, numbers, drain\n"
        "directory = Path(sys.argv[1])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", prelude + script, str(directory), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def line_of(running: subprocess.Popen[str]) -> str:
    """The next line that the process prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()
