from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from muniment import AuditLog, Event
from tests.http.conftest import Serve
from tests.scripted import LONG, until
from tests.servers.muniment import Served

_EVENTS: Final = 6_000
_DETAILS: Final = {"text": "x" * 4_000}


async def _fill(url: str) -> None:
    """Put about 25 MB of events into a log."""
    async with AuditLog.open(url, sequence_interval=0.05) as log:
        for _ in range(_EVENTS // 2_000):
            await log.record_many(
                Event(action="login", tenant_id="acme", details=_DETAILS) for _ in range(2_000)
            )
        await until(lambda: log.snapshot().sequencing.integrated >= _EVENTS)  # type: ignore[union-attr]


@contextmanager
def _get(served: Served, path: str, accept: str = "*/*") -> Iterator[httpx.Response]:
    headers = {**served.headers, "Accept": accept}
    with httpx.stream("GET", served.url + path, headers=headers, timeout=LONG) as found:
        yield found


def _streamed(served: Served) -> int:
    """How many events come when all are asked for."""
    with _get(served, "/v1/events?action=login", "application/x-ndjson") as stream:
        return sum(piece.count(b"\n") for piece in stream.iter_raw())


def _memory(pid: int) -> int:
    """The most bytes of memory that a process' largest worker has had so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return max(
        int(line.split()[1]) * 1024
        for child in children
        for line in Path(f"/proc/{child}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )


@pytest.fixture
def served(serve: Serve, sqlite_url: str) -> Served:
    """A served log of this test's own: it is ended within it."""
    return serve(sqlite_url, MUNIMENT_HTTP_DRAIN_SECONDS="600")


def _wait_for_its_end_to_begin(served: Served) -> None:
    """Return once it takes no more connections: what is not read by then waits in its memory."""
    ends = time.monotonic() + LONG
    while time.monotonic() < ends:
        try:
            socket.create_connection(("127.0.0.1", served.port)).close()
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("it goes on to take connections")


async def test_streams_leave_nothing_behind(serve: Serve, sqlite_url: str) -> None:
    """Once SQLite has filled its page cache, streaming as much again takes no memory."""
    await _fill(sqlite_url)
    served = serve(sqlite_url)
    assert _streamed(served) == _EVENTS
    before = _memory(served.pid)
    assert _streamed(served) == _EVENTS
    assert _memory(served.pid) - before < 8_000_000


async def test_a_stream_that_is_cut_off_is_noticed(serve: Serve, sqlite_url: str) -> None:
    """A service that ends in the middle does not make a part look like the whole, and logs why."""
    await _fill(sqlite_url)
    served = serve(sqlite_url)
    with _get(served, "/v1/events?action=login", "application/x-ndjson") as stream:
        pieces = stream.iter_raw()
        next(pieces)
        served.signal(signal.SIGTERM)
        _wait_for_its_end_to_begin(served)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            list(pieces)
    served.wait()
    told = "WARNING muniment.http: GET /v1/events: the answer was broken off: The service shuts"
    assert (told in served.output, "Traceback" in served.output) == (True, False)


def test_http_1_0_gets_no_stream(served: Served) -> None:
    """There a body ends with its connection, so that a part of it would look whole."""
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        head = [f"{name}: {value}" for name, value in served.headers.items()]
        asked = ["GET /v1/events HTTP/1.0", *head, "Accept: text/csv", "", ""]
        client.sendall("\r\n".join(asked).encode())
        answered = client.makefile("rb").read()
    assert answered.startswith(b"HTTP/1.0 505")
    assert b"urn:muniment:problem:http-version" in answered


def test_a_tail_does_not_hold_up_the_end(served: Served) -> None:
    """At SIGTERM an open tail ends, as a whole answer does, and the process with it."""
    with _get(served, "/v1/tail") as stream:
        pieces = stream.iter_raw()
        assert next(pieces) == b"retry: 2000\n\n"
        served.signal(signal.SIGTERM)
        assert list(pieces) == []
        assert served.wait() == 0
