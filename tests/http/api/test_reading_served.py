from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from muniment import AuditLog, Event
from tests.http.api.calling import until
from tests.http.conftest import Serve
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
    with httpx.stream("GET", served.url + path, headers=headers, timeout=30) as found:
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
    return serve(sqlite_url)


async def test_streams_leave_nothing_behind(serve: Serve, sqlite_url: str) -> None:
    """Once SQLite has filled its page cache, streaming as much again takes no memory."""
    await _fill(sqlite_url)
    served = serve(sqlite_url)
    assert _streamed(served) == _EVENTS
    before = _memory(served.pid)
    assert _streamed(served) == _EVENTS
    assert _memory(served.pid) - before < 8_000_000


async def test_a_stream_that_is_cut_off_is_noticed(serve: Serve, sqlite_url: str) -> None:
    """A service that ends in the middle does not make a part look like the whole."""
    await _fill(sqlite_url)
    served = serve(sqlite_url)
    with _get(served, "/v1/events?action=login", "application/x-ndjson") as stream:
        pieces = stream.iter_raw()
        next(pieces)
        served.signal(signal.SIGTERM)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            list(pieces)


def test_a_tail_does_not_hold_up_the_end(served: Served) -> None:
    """At SIGTERM an open tail ends, as a whole answer does, and the process with it."""
    with _get(served, "/v1/tail") as stream:
        pieces = stream.iter_raw()
        assert next(pieces) == b"retry: 2000\n\n"
        began = time.monotonic()
        served.signal(signal.SIGTERM)
        assert list(pieces) == []
        assert served.wait() == 0
        assert time.monotonic() - began < 10.0
