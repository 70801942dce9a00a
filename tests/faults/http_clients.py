"""Clients of the service, some of which behave: they keep count of what they were promised.

One request in twenty is malformed, too large, or cut off. What a client sent and got no answer for
it sends again, as it does after a 429 or 503; so does a real one.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from muniment.event_id import make_event_id
from muniment.sealing import utc_now
from tests.servers.muniment import Served

TENANT: Final = "under-load"
_BAD: Final = 0.05
_BATCHES: Final = 0.2
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.02
_BOMB: Final = gzip.compress(b" " * 70_000_000, 1)
_ANSWERED: Final = frozenset({200, 201, 202})


class Clients:
    """Many at once, against one served log.

    `submitted` are the ids of all good events that went out, `acknowledged` of those that the
    service said were durable; `answers` counts its answers by status, 0 where it gave none.
    `misbehaved` counts the bad requests: the first twelve are of one kind each.
    """

    def __init__(self, served: Served, *, seed: int) -> None:
        self._port = served.port
        self._token = served.token
        self._numbers = count()
        self._random = random.Random(seed)  # noqa: S311 - the same faults again
        self.submitted: set[str] = set()
        self.acknowledged: set[str] = set()
        self.answers: Counter[int] = Counter()
        self.misbehaved = 0

    async def run(self, clients: int, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Send as fast as the service answers, for a while, and until it is enough."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds

        def goes_on() -> bool:
            return loop.time() < until or not is_enough()

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(goes_on))

    async def _client(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            if self._random.random() < _BAD:
                await self._misbehave()
            elif self._random.random() < _BATCHES:
                await self._send_batch()
            else:
                event_id, body = self._event()
                status, _ = await self._until_answered("/v1/events", "application/json", body)
                assert status in _ANSWERED, status
                self.acknowledged.add(event_id)

    def _event(self) -> tuple[str, bytes]:
        n = next(self._numbers)
        event_id = make_event_id(utc_now(), n.to_bytes(8, "big"))
        self.submitted.add(event_id)
        fields = {"action": "load", "tenant_id": TENANT, "event_id": event_id, "details": {"n": n}}
        return event_id, json.dumps(fields).encode()

    async def _send_batch(self) -> None:
        """A batch with a bad line here and there: the others must land."""
        good = [self._event() for _ in range(self._random.randint(1, 200))]
        lines = [body for _, body in good]
        bad = sum(self._random.random() < _BAD for _ in lines)
        for _ in range(bad):
            line = self._random.choice([b"nope", b'{"action":""}', b"[" * 2_000, b"\xff", b"{}"])
            lines.insert(self._random.randint(0, len(lines)), line)
        packed = self._random.random() < 0.3
        body = b"\n".join(lines)
        status, answer = await self._until_answered(
            "/v1/events/batch",
            "application/x-ndjson",
            gzip.compress(body) if packed else body,
            *(("Content-Encoding: gzip",) if packed else ()),
        )
        told = json.loads(answer)
        assert status == (422 if bad else 200), (status, answer)
        assert told["recorded"] + told["already"] + told["spooled"] == len(good), answer
        assert told.get("refused", 0) == bad
        self.acknowledged.update(event_id for event_id, _ in good)

    async def _until_answered(
        self, path: str, kind: str, body: bytes, *lines: str
    ) -> tuple[int, bytes]:
        while True:
            status, answer = await self._talk(self._request(path, kind, body, *lines))
            if status not in {0, 429, 503}:
                return status, answer
            await asyncio.sleep(_PAUSE)

    def _request(
        self, path: str, kind: str, body: bytes, *lines: str, length: int | None = None
    ) -> bytes:
        head = [
            f"POST {path} HTTP/1.1",
            "Host: here",
            "Connection: close",
            f"Authorization: Bearer {self._token}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body) if length is None else length}",
            *lines,
        ]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body

    # --- those that misbehave

    async def _misbehave(self) -> None:
        """One bad request. The events in it were submitted; what becomes of them is open."""
        requests = list(self._bad_requests())
        request = requests[self.misbehaved % len(requests)]
        self.misbehaved += 1
        status, _ = await self._talk(request, ends=True, waits=self._random.random() < 0.5)
        assert status not in {200, 201, 202, 500}, request[:300]

    def _bad_requests(self) -> Iterator[bytes]:
        one, many = "/v1/events", "/v1/events/batch"
        json_type, lines_type = "application/json", "application/x-ndjson"
        _, event = self._event()
        _, other = self._event()
        cut = self._random.randint(1, len(event) - 1)
        yield self._request(one, json_type, event[:cut])
        yield self._request(one, json_type, event[:cut], length=len(event))
        yield self._request(one, "text/plain", event)
        yield self._request(one, json_type, event, "Content-Encoding: gzip")
        yield self._request(one, json_type, b"x" * 2_000_000)
        yield self._request(one, json_type, b"", length=10**12)
        yield self._request(one, json_type, event, "X-Long: " + "x" * 40_000)
        yield self._request(many, lines_type, event + b"\n" + other[:cut], length=10_000)
        yield self._request(many, json_type, b"[" + event + b"," + other[:cut])
        yield self._request(many, lines_type, _BOMB, "Content-Encoding: gzip")
        yield b"POST /v1/events HT"
        yield b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100)

    async def _talk(
        self, request: bytes, *, ends: bool = False, waits: bool = True
    ) -> tuple[int, bytes]:
        """The status and body of the answer; 0 if there is none.

        `ends`: no more will come, which a client says that is cut off; `waits`: it stays to hear.
        """
        status, body = 0, b""
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(request)
                    await writer.drain()
                    if not waits:
                        return 0, b""
                    if ends:
                        writer.write_eof()
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                    status = int(head.split(b" ", 2)[1]) if head else 0
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        self.answers[status] += 1
        return status, body
