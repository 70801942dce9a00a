"""A real `muniment serve` over a store, started and ended by the tests."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar, Final, Self
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

_ROOT: Final = Path(__file__).parents[2]
_START: Final = 60.0
_STOP: Final = 60.0
_PAUSE: Final = 0.02
_SERVES: Final = re.compile(r"^muniment serves .+ at (https?://\S+)$", re.MULTILINE)
_TOKEN: Final = re.compile(r"\bmuniment_[A-Za-z0-9_-]{43}")

# It waits for its standard input to close, which the end of our process does however it comes.
_WATCHER: Final = 'cat >/dev/null; kill -KILL "$1"'


class Served:
    """A served log, answering once this is made; `stop` it, or use it in a `with`.

    `arguments` go to `muniment serve`, `settings` into its environment. `token` is the first
    token, None if it made none. It goes when its owner's process ends, even by SIGKILL.
    """

    program: ClassVar[str] = "muniment.cli"

    def __init__(self, store_url: str | None, *arguments: object, **settings: str) -> None:
        self.store_url = store_url
        self._written = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # open as long as we are
        named = ("--url", store_url) if store_url else ()
        port = () if "--port" in arguments else ("--port", "0")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MUNIMENT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.program, *named, "serve", *port, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=self._written,
            stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONUTF8": "1", **settings},
            start_new_session=True,
        )
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(self.process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.url = self._once_ready()
        except BaseException:
            self.close()
            raise
        token = _TOKEN.search(self.output)
        self.token = token.group() if token else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process that was started; its workers are its children."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def output(self) -> str:
        """What it has written so far, on stdout and stderr."""
        end = os.fstat(self._written.fileno()).st_size
        return os.pread(self._written.fileno(), end, 0).decode(errors="replace")

    def output_with(self, text: str, times: int = 1) -> str:
        """What it has written, once that holds `text` so often; a line of an answer follows it."""
        deadline = time.monotonic() + _START
        while (output := self.output).count(text) < times and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        return output

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the first token makes."""
        return {"Authorization": f"Bearer {self.token}"}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        self.process.send_signal(number)

    def wait(self, timeout: float = _STOP) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(timeout)

    def stop(self, timeout: float = _STOP) -> int:
        """End it as an operator does, and get its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def close(self) -> None:
        """End it, whatever state it is in."""
        try:
            if self.process.poll() is None:
                self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()  # its workers see that, and end
            self.process.wait(_STOP)
        finally:
            self._watcher.kill()
            self._watcher.communicate()
            self._written.close()

    def _once_ready(self) -> str:
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline and self.process.poll() is None:
            found = _SERVES.search(self.output)
            if found and _answers(found.group(1)):
                return found.group(1)
            time.sleep(_PAUSE)
        raise AssertionError(f"muniment serve did not start: {self.output}")


class PatientlyServed(Served):
    """The same, with a service that has time for everything, however busy the machine is."""

    program = "tests.servers.patient"

    def __init__(self, store_url: str | None, *arguments: object, **settings: str) -> None:
        given = {"PYTHONPATH": str(_ROOT), "MUNIMENT_HTTP_SEARCH_SECONDS": "60", **settings}
        super().__init__(store_url, *arguments, **given)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    """The status and body that a plain GET gets; any certificate will do."""
    request = Request(url, headers=headers)  # noqa: S310  # the tests' own servers
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=trusting))
    try:
        with opener.open(request, timeout=_START) as answer:
            return answer.status, answer.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def _answers(url: str) -> bool:
    try:
        return get(f"{url}/readyz")[0] == 200
    except (URLError, HTTPException, OSError):
        return False
