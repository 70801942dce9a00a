"""What a request may take: head, body, time, and how many there may be at once.

What is over a limit is answered at once and never made to wait: nobody can fill the memory or
take the room of others by sending much, slowly, or often. Of the room that there is one tenant has
a share at most, so that some is left for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar.utils import normalize_path

from muniment.http.access import Holder
from muniment.http.problems import AGAIN, MEDIA_TYPE, Refusal
from muniment.http.settings import ServiceSettings
from muniment.integrations.prometheus import RequestMetrics
from muniment.log import AuditLog

_Message = Any
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[Any, _Receive, _Send], Awaitable[None]]

_BATCH: Final = "/v1/events/batch"
_ALWAYS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What answers under any load."""
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_TAILS: Final = frozenset({"/v1/tail", "/live/stream"})
"""What is open for long, and has room of its own."""
_PATIENCE: Final = 10.0
_SLOWEST: Final = 16_384
"""Bytes a second: a body may take so long, and `_PATIENCE` seconds more."""
_MOST_WAITING: Final = 100_000
_MOST_WAITING_BYTES: Final = 256 * 2**20
_LOOKS: Final = 0.25
"""Seconds for which what the queue held is taken for what it holds."""
_PLACE: Final = "muniment.place"
"""The key of an ASGI scope that holds the request's `Place`."""


class Room:
    """Room for `most` of something at once, of which one holder has at most a share.

    A holder is a tenant, or a caller for all tenants (`Caller.holder`). The share is rounded down,
    but for one. `what` is what there is room for, `again` after how many seconds to try again.
    """

    def __init__(self, most: int, share: float, *, what: str, again: int = 1) -> None:
        self._most = most
        self._share = max(1, int(most * share))
        self._what = what
        self._again = {"Retry-After": str(again)}
        self._taken = 0
        self._held: dict[Holder | None, int] = {}

    def __len__(self) -> int:
        return self._taken

    def enter(self) -> Place:
        """A place, which is to be left. Raises a 503 if there is none."""
        if self._taken >= self._most:
            raise self._full()
        self._taken += 1
        return Place(self)

    def _full(self) -> Refusal:
        detail = f"There are too many {self._what} at once. Try again."
        return Refusal(503, "overloaded", detail, headers=self._again)

    def _take(self, holder: Holder | None) -> None:
        held = self._held.get(holder, 0)
        if held < self._share:
            self._held[holder] = held + 1
            return
        if holder is None:  # one stranger's many are no fault of the other's
            raise self._full()
        raise Refusal(  # RFC 6585, section 4
            429,
            "too-many-requests",
            f"You have too many {self._what} at once: others are to have room, too. Try again.",
            headers=self._again,
        )

    def _give_back(self, holder: Holder | None) -> None:
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


class Place:
    """A place in a room, held until it is left; by nobody yet who is known."""

    __slots__ = ("_holder", "_is_held", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._holder: Holder | None = None
        self._is_held = False

    def belongs_to(self, holder: Holder | None) -> None:
        """Count it to its holder, None for all who show no credential.

        Raises a 429 if the holder has its share already, a 503 if these have.
        """
        self._room._take(holder)  # noqa: SLF001  # a room and its places are one thing
        self._holder, self._is_held = holder, True

    def leave(self) -> None:
        """Make room for another one."""
        self._room._taken -= 1  # noqa: SLF001
        if self._is_held:
            self._room._give_back(self._holder)  # noqa: SLF001


class Rooms:
    """The rooms of a service: for requests, and apart for batches and for tails."""

    def __init__(self, settings: ServiceSettings) -> None:
        share = settings.tenant_share
        self.requests = Room(settings.max_requests, share, what="requests")
        self.batches = Room(settings.max_batches, share, what="batches")
        self.tails = Room(settings.max_tails, share, what="live tails", again=5)

    def of(self, path: str) -> Room:
        """The room that a request for this path takes a place of."""
        if path == _BATCH:
            return self.batches
        return self.tails if path in _TAILS else self.requests


def count_to(scope: Any, holder: Holder | None) -> None:
    """Count a request to its holder, now that it is known. Raises as `Place.belongs_to` does."""
    place: Place | None = scope.get(_PLACE)
    if place is not None:
        place.belongs_to(holder)


class Limits:
    """Stands before an application and refuses what is too much, with the same problems as it."""

    def __init__(
        self,
        application: _Application,
        log: AuditLog,
        settings: ServiceSettings,
        rooms: Rooms,
        requests: RequestMetrics,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._application = application
        self._log = log
        self._settings = settings
        self._patience = patience
        self._rooms = rooms
        self._requests = requests
        self._looked_at = -1.0
        self._is_full = False

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        # As the application reads it, for which "//v1/tail/" is the tail, too.
        path = normalize_path(scope["path"].removeprefix(scope.get("root_path", "")))
        headers = scope["headers"]
        try:
            body = self._checked(scope["method"], path, headers)
        except Refusal as refusal:
            await self._refuse(refusal, scope["method"], send)
            return
        if path in _ALWAYS:
            await self._application(scope, receive, send)
            return
        try:
            place = self._rooms.of(path).enter()
        except Refusal as refusal:
            await self._refuse(refusal, scope["method"], send)
            return
        scope[_PLACE] = place
        try:
            await self._application(scope, _Body(receive, body, self._patience).receive, send)
        finally:
            place.leave()

    async def _refuse(self, refusal: Refusal, method: str, send: _Send) -> None:
        # The path may be any: as a label there would be no end of them.
        known = method if method in _METHODS else "other"
        self._requests.observe(known, "(refused)", refusal.problem.status, 0.0)
        await _answer(refusal, send)

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
            detail = "Too many events wait to be stored. Try again."
            raise Refusal(503, "overloaded", detail, headers=AGAIN)
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
