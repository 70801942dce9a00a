"""What a request may take: head, body, time, and how many there may be at once.

What is over a limit is answered at once and never made to wait: nobody can fill the memory or
take the room of others by sending much, slowly, or often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from muniment.http.problems import AGAIN, MEDIA_TYPE, Refusal
from muniment.http.settings import ServiceSettings
from muniment.log import AuditLog

_Message = Any
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[Any, _Receive, _Send], Awaitable[None]]

_BATCH: Final = "/v1/events/batch"
_COUNTED_ELSEWHERE: Final = frozenset({"/healthz", "/readyz", "/v1/tail"})
"""What answers under any load, and what is open for long and has a limit of its own."""
_PATIENCE: Final = 10.0
_SLOWEST: Final = 16_384
"""Bytes a second: a body may take so long, and `_PATIENCE` seconds more."""
_MOST_WAITING: Final = 100_000
_MOST_WAITING_BYTES: Final = 256 * 2**20
_LOOKS: Final = 0.25
"""Seconds for which what the queue held is taken for what it holds."""


class Limits:
    """Stands before an application and refuses what is too much, with the same problems as it."""

    def __init__(
        self,
        application: _Application,
        log: AuditLog,
        settings: ServiceSettings,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._application = application
        self._log = log
        self._settings = settings
        self._patience = patience
        self._rooms = {
            "requests": _Room(settings.max_requests),
            _BATCH: _Room(settings.max_batches),
        }
        self._looked_at = -1.0
        self._is_full = False

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = scope["headers"]
        try:
            body = self._checked(scope["method"], path, headers)
        except Refusal as refusal:
            await _answer(refusal, send)
            return
        if path in _COUNTED_ELSEWHERE:
            await self._application(scope, receive, send)
            return
        room = self._rooms[path if path in self._rooms else "requests"]
        if room.left < 1:
            await _answer(_full("Too many requests at once."), send)
            return
        room.left -= 1
        try:
            await self._application(scope, _Body(receive, body, self._patience).receive, send)
        finally:
            room.left += 1

    def _checked(self, method: str, path: str, headers: Any) -> int:
        """How many bytes the body may have. Raises a 413, 431 or 503."""
        size, length = 0, b""
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"content-length":
                length = value
        if size > self._settings.max_header_bytes:
            most = self._settings.max_header_bytes
            raise Refusal(431, "head-too-large", f"The headers are over {most:,} bytes.")
        most = self._settings.max_event_bytes
        if path == _BATCH:
            most = self._settings.max_batch_bytes
        if length and (not length.isdigit() or len(length) > 18 or int(length) > most):
            raise _too_large(most)
        if method == "POST" and path.startswith("/v1/events") and self._queue_is_full():
            raise _full("Too many events wait to be stored.")
        return most

    def _queue_is_full(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at > _LOOKS:
            self._looked_at = now
            held = self._log.snapshot()
            self._is_full = held is not None and (
                held.waiting > _MOST_WAITING or held.waiting_bytes > _MOST_WAITING_BYTES
            )
        return self._is_full


class _Room:
    """How many more there may be."""

    def __init__(self, left: int) -> None:
        self.left = left


class _Body:
    """A body that may have so many bytes, and must not come slower than is sensible."""

    def __init__(self, receive: _Receive, most: int, patience: float) -> None:
        self._receive = receive
        self._most = most
        self._left = patience
        self._size = 0
        self._is_over = False

    async def receive(self) -> _Message:
        """The next message. Raises a 408 or a 413."""
        if self._is_over:  # all that is left to come is that the client goes
            return await self._receive()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(
                408,
                "too-slow",
                f"The body comes too slowly: {self._size:,} bytes of it are here.",
            ) from None
        size = len(message.get("body", b""))
        self._size += size
        # Only the client's time counts, not the store's.
        self._left += size / _SLOWEST - (loop.time() - began)
        self._is_over = not message.get("more_body", False)
        if self._size > self._most:
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too-large", f"The body is over {most:,} bytes.")


def _full(detail: str) -> Refusal:
    return Refusal(503, "overloaded", f"{detail} Try again.", headers=AGAIN)


async def _answer(refusal: Refusal, send: _Send) -> None:
    body = msgspec.json.encode(refusal.problem)
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        **refusal.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": HTTPStatus(refusal.problem.status).value,
            "headers": [(name.lower().encode(), v.encode()) for name, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
