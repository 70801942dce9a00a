"""A real `muniment witness` in a process of its own, on a free port of the loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muniment.keys import write_key
from tests.proofs.trails import LOG_KEY, WITNESS_KEY


class WitnessProcess:
    """A witness that has begun to listen; it trusts the log of `LOG_KEY`."""

    def __init__(self, directory: Path) -> None:
        self._log_file = (directory / "witness.log").open("w+")
        key_file = directory / "witness.key"
        if not key_file.exists():
            write_key(key_file, WITNESS_KEY)
        arguments = ["--key-file", key_file, "--state", directory / "witness.db"]
        arguments += ["--trust", LOG_KEY.verifier.text(), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "muniment.cli", "witness", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            text=True,
        )
        assert self.process.stdout is not None
        said = [self.process.stdout.readline(), self.process.stdout.readline()]
        self.vkey = said[0].removeprefix("public key ").strip()
        self.url = said[1].removeprefix("listening on ").strip()
        if not self.url:
            self.process.kill()
            self.close()
            raise AssertionError(self.log())

    def log(self) -> str:
        """What it wrote to stderr so far."""
        self._log_file.seek(0)
        return self._log_file.read()

    def decisions(self) -> list[dict[str, Any]]:
        """What it decided so far, a dict each."""
        return [json.loads(line) for line in self.log().splitlines()]

    def close(self) -> None:
        """Kill it, if it lives."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.url:
            self._log_file.close()


@contextmanager
def running_witness(directory: Path) -> Iterator[WitnessProcess]:
    """A witness whose key and memory are in this directory; killed at the end."""
    witness = WitnessProcess(directory)
    try:
        yield witness
    finally:
        witness.close()
