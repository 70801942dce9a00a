"""How the service ends: what is at work finishes, and nothing that was answered is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Final, Self

import httpx
import pytest

from tests.cli.running import search
from tests.scripted import LONG
from tests.servers.muniment import Served

Serve = Callable[..., Served]


def _lines(numbers: range) -> bytes:
    events = (
        {"action": "login", "tenant_id": "acme", "actor": {"type": "user", "id": f"u{n}"}}
        for n in numbers
    )
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


class _Batch:
    """A batch that is sent piece by piece, by a client that takes its time."""

    def __init__(self, served: Served) -> None:
        self._connection = HTTPConnection("127.0.0.1", served.port, timeout=LONG)
        self._connection.putrequest("POST", "/v1/events/batch")
        for name, value in served.headers.items():
            self._connection.putheader(name, value)
        self._connection.putheader("Content-Type", "application/x-ndjson")
        self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.endheaders()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, piece: bytes) -> None:
        """Send a piece of the body; an empty one is its end."""
        self._connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    def answer(self) -> HTTPResponse:
        return self._connection.getresponse()


def _until(is_so: Callable[[], bool]) -> None:
    """Return once it is so; fail if it takes too long."""
    deadline = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _takes_no_more(served: Served) -> bool:
    try:
        socket.create_connection(("127.0.0.1", served.port), timeout=1).close()
    except OSError:
        return True
    return False


def _get(served: Served, path: str) -> httpx.Response:
    return httpx.get(served.url + path, headers=served.headers, timeout=LONG)


def _has(served: Served, count: int) -> bool:
    """Whether so many of a batch's events are there, or more."""
    return int(_get(served, "/v1/stats?action=login").json()["events"]) >= count


def test_a_batch_at_work_is_finished_and_answered(serve: Serve, sqlite_url: str) -> None:
    """Nobody else is let in; the batch lands as a whole, then the service ends well."""
    served = serve(sqlite_url, MUNIMENT_HTTP_DRAIN_SECONDS="600")
    with _Batch(served) as batch:
        batch.send(_lines(range(3_000)))
        _until(lambda: _has(served, 1))
        served.signal(signal.SIGTERM)
        _until(lambda: _takes_no_more(served))
        batch.send(_lines(range(3_000, 5_000)))
        batch.send(b"")
        answer = batch.answer()
        assert (answer.status, json.load(answer)["recorded"]) == (200, 5_000)
    assert served.wait(LONG) == 0
    assert len(search(sqlite_url, action="login")) == 5_000


def test_open_tails_end_at_once(serve: Serve, sqlite_url: str) -> None:
    """At Ctrl-C a tail, which would go on for ever, is ended by the service and not cut off."""
    served = serve(sqlite_url, MUNIMENT_HTTP_DRAIN_SECONDS="600")
    url = f"{served.url}/v1/tail"
    with httpx.stream("GET", url, headers=served.headers, timeout=LONG) as tail:
        pieces: Iterator[str] = tail.iter_lines()
        assert next(pieces).startswith("retry:")
        served.signal(signal.SIGINT)
        list(pieces)  # a tail that is cut off raises here
        assert served.wait(LONG) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_its_processes_ends_it_well(
    number: signal.Signals, serve: Serve, sqlite_url: str
) -> None:
    """Ctrl-C goes to its workers as well, and so does systemd's SIGTERM: none is killed."""
    served = serve(sqlite_url, "--workers", 2)
    os.killpg(served.pid, number)
    assert served.wait(LONG) == 0
    assert "Killing" not in served.output


def test_what_does_not_finish_is_cut_off(serve: Serve, sqlite_url: str) -> None:
    """After `drain_seconds` a request that stands still gets 503; what was stored of it stays.

    A client that says half of a request's head, and no more, does not hold up the end either.
    """
    served = serve(sqlite_url, MUNIMENT_HTTP_DRAIN_SECONDS="0.5")
    with _Batch(served) as batch, socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.sendall(b"GET /v1/events HTTP/1.1\r\nHost: ")
        batch.send(_lines(range(3_000)))
        _until(lambda: _has(served, 2_000))
        served.signal(signal.SIGHUP)
        answer = batch.answer()
        problem = json.load(answer)
        assert (answer.status, problem["type"]) == (503, "urn:muniment:problem:closing")
        assert answer.headers["Retry-After"]
        assert served.wait(LONG) == 0
    assert len(search(sqlite_url, action="login", limit=5_000)) >= 2_000


def test_a_second_signal_ends_it_at_once(serve: Serve, sqlite_url: str) -> None:
    """Whoever does not want to wait gets the exit code of a process that a signal ended."""
    served = serve(sqlite_url)
    with _Batch(served) as batch:
        batch.send(_lines(range(3_000)))
        _until(lambda: _has(served, 1))
        served.signal(signal.SIGTERM)
        _until(lambda: _takes_no_more(served))
        served.signal(signal.SIGINT)
        assert served.wait(LONG) == 128 + signal.SIGTERM


def test_by_nohup_a_hang_up_does_not_end_it(serve: Serve, sqlite_url: str) -> None:
    """Who has hang-ups ignored goes on to have them ignored: the next signal is the first."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        served = serve(sqlite_url)
    finally:
        signal.signal(signal.SIGHUP, before)
    served.signal(signal.SIGHUP)
    assert _get(served, "/readyz").status_code == 200
    assert served.stop() == 0


# --- its processes


def _workers(served: Served) -> list[int]:
    """The processes of its workers."""
    children = Path(f"/proc/{served.pid}/task/{served.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def _is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_worker_that_dies_is_replaced(serve: Serve, sqlite_url: str) -> None:
    """What it had acknowledged is there, and the service goes on by itself."""
    served = serve(sqlite_url)
    event = {"action": "login", "tenant_id": "acme"}
    url = f"{served.url}/v1/events"
    posted = httpx.post(url, json=event, headers=served.headers, timeout=LONG)
    (worker,) = _workers(served)
    os.kill(worker, signal.SIGKILL)
    _until(lambda: worker not in _workers(served))
    _until(lambda: not _takes_no_more(served))
    found = _get(served, f"/v1/events/{posted.json()['event_id']}")
    assert (posted.status_code, found.status_code) == (201, 200)


def test_no_worker_outlives_the_service(serve: Serve, sqlite_url: str) -> None:
    """If the first process is killed, its workers end by themselves, and free the port."""
    served = serve(sqlite_url, "--workers", 2)
    _until(lambda: len(_workers(served)) == 2)
    workers = _workers(served)
    served.signal(signal.SIGKILL)
    _until(lambda: not any(map(_is_there, workers)))
    assert _takes_no_more(served)


_SIGNALLED_WHILE_STARTING: Final = """
import os, signal, uvloop
from muniment.http.worker import _watch_signals, signals_held_back

def start_and_end():
    os.close(writer)
    os.read(reader, 1)  # returns once the signal was sent
    loop, told = uvloop.new_event_loop(), []
    _watch_signals(loop, lambda: told.append("told"))
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    loop.call_later(50, loop.stop)
    loop.run_forever()
    print(*told, flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, lambda *_: None)  # as one has it who has workers
reader, writer = os.pipe()
with signals_held_back():
    worker = os.fork() or start_and_end()
os.kill(worker, signal.SIGTERM)
os.close(writer)
os.waitpid(worker, 0)
"""


def test_a_worker_that_is_starting_misses_no_signal() -> None:
    """What came before it had a handler of its own is handled once its loop runs."""
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED_WHILE_STARTING],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("told\n", "")
