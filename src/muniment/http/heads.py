"""HEAD on every route that has GET (RFC 9110, section 9.3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from muniment.http.streaming import HEAD_ONLY

_Message = Any
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[Any, _Receive, _Send], Awaitable[None]]


class Heads:
    """Stands before an application, and answers a HEAD with the head of the answer to a GET.

    To those behind it it is that GET, which has the same limits and is recorded as the same
    reading, until the answer begins: then the client goes away, as it seems to them. Streams, which
    `HEAD_ONLY` tells, are not begun, live tails neither.
    """

    def __init__(self, application: _Application) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._application(scope, receive, send)
            return
        has_begun = asyncio.Event()
        is_read = False

        async def received() -> _Message:
            nonlocal is_read
            if not is_read:
                message = await receive()
                is_read = not message.get("more_body", False)
                return message
            await has_begun.wait()
            return {"type": "http.disconnect"}

        async def sent(message: _Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                has_begun.set()

        await self._application({**scope, "method": "GET", HEAD_ONLY: True}, received, sent)
