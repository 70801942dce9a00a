"""The service over HTTP: batches over raw sockets, single posts by wrk, each durable when answered.

`muniment serve` runs as a process of its own, with one worker and all that goes on in it beside
the requests: the sequencer, the indexer, the counts. What sends is cheap: bytes that were made
before, or wrk.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any, Final

import msgspec

from bench.measuring import Case, Result, Round, Timing, WorkMissing, round_of
from bench.postgres import upgrade
from bench.trees import STORES, Place, count_events, places
from bench.workload import ACTION, event_of, happenings, plain_fields_of
from tests.servers.muniment import Served
from tests.servers.postgres import Postgres

GROUP: Final = "http"
CONNECTIONS: Final = 64
AT_ONCE: Final = 2
BATCH: Final = 10_000
_WRK: Final = "wrk"
_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {token}"
done = function(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format('\\n{{"answered":%d,"microseconds":%d,"refused":%d,"broken":%d,' ..
    '"p50":%d,"p95":%d,"p99":%d,"longest":%d}}\\n', summary.requests, summary.duration,
    failed.status, failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), latency.max))
end
"""


def batches(store: str) -> str:
    """The name of the case that posts batches."""
    return f"{store}: NDJSON, {BATCH:,} a batch"


def singles(store: str) -> str:
    """The name of the case that posts event by event."""
    return f"{store}: one event a request"


class _Counted(msgspec.Struct):
    """What wrk counted; times are in microseconds."""

    answered: int
    microseconds: int
    refused: int
    broken: int
    p50: int
    p95: int
    p99: int
    longest: int


def http_cases(directory: Path, server: Postgres | None, seconds: float) -> list[Case]:
    """What is measured, over so many seconds of single posts."""
    if shutil.which(_WRK) is None:
        raise WorkMissing("wrk is not here, which posts event by event: apt-get install wrk")
    cases = []
    for store, place in places(directory, server).items():
        count = 10 if seconds >= 1 else 1
        for name, tasks, measure in (
            (batches(store), AT_ONCE, partial(_post_batches, place, directory, count)),
            (singles(store), CONNECTIONS, partial(_post_singles, place, directory, seconds)),
        ):
            cases.append(Case(group=GROUP, name=name, tasks=tasks, measure=measure))
    return cases


async def _post_batches(place: Place, directory: Path, count: int) -> Round:
    next_happening = happenings()
    bodies = [
        b"\n".join(msgspec.json.encode(event_of(next_happening())) for _ in range(BATCH))
        for _ in range((count + 1) * AT_ONCE)
    ]
    with place() as url:
        await _upgraded(url)
        with _served(url, directory) as served:
            before = await count_events(url)
            with ThreadPoolExecutor(AT_ONCE) as threads, _connected(served) as connections:
                post = partial(_post, served)
                list(threads.map(post, connections, bodies[:AT_ONCE]))  # warms up
                began = perf_counter_ns()
                each = [bodies[n::AT_ONCE][1:] for n in range(AT_ONCE)]
                times = list(threads.map(partial(_post_all, served), connections, each))
                seconds = (perf_counter_ns() - began) / 1e9
            found = await count_events(url) - before
    timing = Timing(count * AT_ONCE * BATCH, seconds, [time for some in times for time in some])
    return round_of(timing, warm_up=AT_ONCE * BATCH, found=found)


async def _post_singles(place: Place, directory: Path, seconds: float) -> Round:
    with place() as url:
        await _upgraded(url)
        with _served(url, directory) as served:
            before = await count_events(url)
            runs = [_wrk(served, directory, part) for part in (seconds / 2, seconds * 2)]
            found = await count_events(url) - before
    for run in runs:
        if run.refused or run.broken:
            raise WorkMissing(f"wrk was refused {run.refused} times, cut off {run.broken} times")
    answered = sum(run.answered for run in runs)
    # When its time is up wrk leaves, whatever it has sent that is not answered yet.
    if not answered <= found <= answered + len(runs) * CONNECTIONS:
        raise WorkMissing(f"{answered} events were answered for, and {found} are there")
    counted = runs[-1]  # the first one warms up
    return Round(
        events=counted.answered,
        seconds=counted.microseconds / 1e6,
        p50_microseconds=counted.p50,
        p95_microseconds=counted.p95,
        p99_microseconds=counted.p99,
        longest_microseconds=counted.longest,
        found=found,
    )


async def _upgraded(url: str) -> None:
    if not url.startswith("sqlite"):
        await upgrade(url)


@contextmanager
def _served(url: str, directory: Path) -> Iterator[Served]:
    with (
        TemporaryDirectory(dir=directory) as spool,
        Served(url, MUNIMENT_SPOOL_DIR=spool) as served,
    ):
        yield served


@contextmanager
def _connected(served: Served) -> Iterator[list[socket.socket]]:
    sockets = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(AT_ONCE)]
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def _post_all(served: Served, connection: socket.socket, bodies: Sequence[bytes]) -> list[int]:
    return [_post(served, connection, body) for body in bodies]


def _post(served: Served, connection: socket.socket, body: bytes) -> int:
    """Post a batch, and see that all of it was recorded; how long it took, in nanoseconds."""
    head = (
        "POST /v1/events/batch HTTP/1.1\r\nHost: here\r\n"
        f"Authorization: Bearer {served.token}\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    before = perf_counter_ns()
    connection.sendall(head.encode())
    connection.sendall(body)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65_536)
    took = perf_counter_ns() - before
    recorded: Any = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    if recorded.get("recorded") != BATCH:
        raise WorkMissing(f"a batch was answered by {answer.decode()}")
    return took


def _wrk(served: Served, directory: Path, seconds: float) -> _Counted:
    body = {"action": ACTION, **plain_fields_of(happenings()())}
    script = directory / "post.lua"
    text = msgspec.json.encode(body).decode()
    script.write_text(_SCRIPT.format(body=text, token=served.token))
    done = subprocess.run(  # noqa: S603 - our own words
        [
            *(_WRK, "--threads", "1", "--connections", str(CONNECTIONS)),
            *("--duration", f"{max(1, round(seconds))}s", "--timeout", "10s"),
            *("--script", str(script), f"{served.url}/v1/events"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=_Counted)


def targets_of(results: Sequence[Result]) -> Iterator[tuple[str, str, bool]]:
    """(target, measured, met); the medians decide, of batches those of the faster store."""
    rates = {
        result.name: statistics.median(each.rate for each in result.rounds)
        for result in results
        if result.group == GROUP
    }
    batched = [(rate, s) for s in STORES if (rate := rates.get(batches(s))) is not None]
    if batched:
        rate, store = max(batched)
        text = "HTTP, batches: at least 50,000 events/s with one worker, on either store"
        yield text, f"{rate:,.0f} events/s on {store}", rate >= 50_000
    for store in STORES:
        if (rate := rates.get(singles(store), 0.0)) > 0:
            text = f"HTTP, {singles(store)}: at least 3,000/s from {CONNECTIONS} connections"
            yield text, f"{rate:,.0f} events/s", rate >= 3_000
