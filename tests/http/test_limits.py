"""What a request may take: what is over a limit is answered at once, and nobody else suffers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from itertools import chain, repeat
from typing import Any

import httpx
import pytest

from muniment import AuditLog
from muniment.http import ServiceSettings
from muniment.http.limits import Limits, Rooms
from muniment.http.problems import MEDIA_TYPE, Refusal
from muniment.integrations.prometheus import RequestMetrics
from tests.http.api.posting import over_faulty_store, post, post_batch, stored_actions
from tests.scripted import LONG, until
from tests.servers.muniment import Served


async def test_headers_have_a_limit(sqlite_url: str) -> None:
    """431 for a head over `max_header_bytes`, whatever the route."""
    async with over_faulty_store(sqlite_url) as (api, _):
        long = {"X-Long": "x" * 32_768}
        for path in ("/v1/events", "/nowhere", "/healthz"):
            answer = await api.get(path, headers=long)
            assert (answer.status_code, answer.headers["content-type"]) == (431, MEDIA_TYPE)


async def test_a_body_has_a_limit(sqlite_url: str) -> None:
    """413 by its Content-Length before it is read, and without one once it is over."""
    async with over_faulty_store(sqlite_url, max_event_bytes=2_000) as (api, _):

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1_000

        by_length = await post(api, b" " * 2_001)
        by_size = await post(api, chunks())
        assert (by_length.status_code, by_size.status_code) == (413, 413)
        assert by_size.json()["type"] == "urn:muniment:problem:too-large"
        assert await stored_actions(api) == []


async def test_too_many_requests_are_told_to_come_again(sqlite_url: str) -> None:
    """503 with Retry-After, at once; the others are answered, and then there is room again."""
    async with over_faulty_store(sqlite_url, max_requests=3, tenant_share=1) as (api, store):
        await post(api, {"action": "first"})
        store.hang()
        waiting = [asyncio.create_task(post(api, {"action": f"a{n}"})) for n in range(3)]
        await until(lambda: api.log.snapshot().waiting == 3)  # type: ignore[union-attr]
        refused = await post(api, {"action": "too much"})
        alive = await api.get("/healthz")
        store.heal()
        answers = await asyncio.gather(*waiting)
        after = await post(api, {"action": "after"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["type"] == "urn:muniment:problem:overloaded"
    assert {answer.status_code for answer in answers} <= {201, 202}
    assert (alive.status_code, after.status_code in {201, 202}) == (200, True)


async def test_too_many_batches_are_told_to_come_again(sqlite_url: str) -> None:
    """Each holds memory, so there may be fewer of them than of requests."""
    async with over_faulty_store(sqlite_url, max_batches=1) as (api, _):
        comes, goes_on = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            comes.set()
            yield b'{"action":"a"}\n'
            await goes_on.wait()
            yield b'{"action":"b"}\n'

        first = asyncio.create_task(post_batch(api, body()))
        await comes.wait()
        second = await post_batch(api, b"")
        goes_on.set()
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        assert (await first).json()["recorded"] == 2


async def test_a_full_queue_pushes_back(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While too many events wait to be stored, new ones get 503; reading goes on."""
    monkeypatch.setattr("muniment.http.limits._MOST_WAITING", 3)
    async with over_faulty_store(sqlite_url) as (api, store):
        store.hang()
        for n in range(8):
            api.log.emit(f"a{n}")
        single = await post(api, {"action": "a"})
        batch = await post_batch(api, b"")
        reading = await api.get("/v1/actions")
        store.heal()
    assert [single.status_code, batch.status_code] == [503, 503]
    assert single.json()["type"] == "urn:muniment:problem:overloaded"
    assert reading.status_code == 200


async def test_a_body_that_trickles_is_cut_off(sqlite_url: str) -> None:
    """408 once the client has let us wait for longer than its bytes are worth."""
    answer = await _limited(sqlite_url, [b"x"], patience=0.05)
    assert answer == 408


async def test_a_body_that_comes_steadily_may_take_its_time(sqlite_url: str) -> None:
    """Each 16 KiB buys a second, so that a long body is not cut off for being long."""
    chunks = [b"x" * 12 * 16_384] * 5
    assert await _limited(sqlite_url, chunks, patience=1.0, pause=0.3, ends=True) == 200


async def _limited(
    url: str, chunks: list[bytes], *, patience: float, pause: float = 0.0, ends: bool = False
) -> int:
    """The status of a request whose body comes so, at an application that reads it.

    There is a pause behind each chunk.
    """
    statuses: list[int] = []
    arriving = iter(chunks)
    pauses = chain([0.0], repeat(pause))

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(next(pauses))
        chunk = next(arriving, None)
        if chunk is None:
            if not ends:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def application(_: Any, receive: Callable[[], Any], send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except Refusal as refusal:
            statuses.append(refusal.problem.status)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})

    settings = ServiceSettings()
    log, rooms = AuditLog.open(url), Rooms(settings)
    limits = Limits(application, log, settings, rooms, RequestMetrics(), patience=patience)
    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": []}
    await limits(scope, receive, send)
    return statuses[0]


# --- over a real socket


def _talk(served: Served, *parts: bytes, half_close: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", served.port), timeout=LONG) as connection:
        for part in parts:
            connection.sendall(part)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while b"\r\n\r\n" not in answer and (got := connection.recv(65_536)):
            answer += got
        return answer


def _found(served: Served, tenant_id: str) -> httpx.Response:
    url = f"{served.url}/v1/events?tenant_id={tenant_id}"
    return httpx.get(url, headers=served.headers, timeout=LONG, trust_env=False)


def _head(served: Served, path: str, *lines: str) -> bytes:
    whole = (f"POST {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {served.token}", *lines)
    return ("\r\n".join(whole) + "\r\n\r\n").encode()


def test_a_length_over_the_limit_is_refused_before_the_body(served: Served) -> None:
    """413 though not a byte of the body was sent."""
    head = _head(served, "/v1/events", "Content-Type: application/json", "Content-Length: 99999999")
    assert _talk(served, head).startswith(b"HTTP/1.1 413")


def test_a_head_over_the_limit_is_refused(served: Served) -> None:
    """431 for forty thousand bytes of headers."""
    head = _head(served, "/v1/events", "X-Long: " + "x" * 40_000, "Content-Length: 0")
    assert _talk(served, head).startswith(b"HTTP/1.1 431")


def test_a_request_that_is_cut_off_stores_no_part_of_an_event(served: Served) -> None:
    """The connection ends in the middle of the body: there is no event, and the service goes on."""
    head = _head(served, "/v1/events", "Content-Type: application/json", "Content-Length: 100")
    _talk(served, head, b'{"action":"cut","tenant_id":"cut-off"}', half_close=True)
    found = _found(served, "cut-off")
    assert (found.status_code, json.loads(found.content)["events"]) == (200, [])


def test_a_batch_that_is_cut_off_stores_whole_events(served: Served) -> None:
    """The last line is not whole, and not stored, though it would be JSON as it is."""
    head = _head(
        served, "/v1/events/batch", "Content-Type: application/x-ndjson", "Content-Length: 500"
    )
    line = b'{"action":"whole","tenant_id":"cut-batch"}'
    _talk(served, head, line + b"\n" + line, half_close=True)
    found = _found(served, "cut-batch")
    assert len(found.json()["events"]) <= 1
