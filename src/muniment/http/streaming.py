"""Responses that are made while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

from anyio import CancelScope
from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

_PATIENCE: Final = 30.0
"""Seconds that a client has to take a piece: one that takes none has the room of another."""


HEAD_ONLY: Final = "muniment.head_only"
"""The key in an ASGI scope that tells of a request for the head alone."""


class Streamed(Response[bytes]):
    """A response whose body is what the source yields, made piece by piece as the client reads.

    When the client goes away, the source's `finally` runs at once. An error in the source breaks
    the connection off before the body's end, so that nobody takes a part for the whole (RFC 9112,
    section 8); so does a client that takes no piece for half a minute.
    """

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        ended: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`ended` is called in any case, even if the client left before the body began."""
        super().__init__(b"", media_type=media_type, headers=dict(headers or {}))
        self._source = source
        self._ended = ended

    def to_asgi_response(
        self, app: Any, request: Request[Any, Any, Any], **given: Any
    ) -> ASGIResponse:
        """What is sent."""
        del app
        made = _Streaming(
            iterator=self._source,
            media_type=self.media_type,
            status_code=self.status_code or given.get("status_code"),
            headers={**(given.get("headers") or {}), **self.headers},
        )
        made.ended = self._ended
        made.is_head_response = HEAD_ONLY in request.scope  # the source is not begun then
        return made


class _Streaming(ASGIStreamingResponse):
    ended: Callable[[], Awaitable[None]] | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head: Any = None

        async def sent(message: Any) -> None:
            # The head waits for what it leads: until then what ends the source is an answer yet.
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                return
            async with asyncio.timeout(_PATIENCE):
                if head is not None:
                    began, head = head, None
                    await send(began)
                await send(message)

        try:
            await super().__call__(scope, receive, sent)
        except ExceptionGroup as errors:
            raise _first_of(errors) from None
        finally:
            with CancelScope(shield=True):
                await self.iterator.aclose()  # type: ignore[union-attr]
                if self.ended is not None:
                    await self.ended()


def _first_of(errors: ExceptionGroup[Exception]) -> Exception:
    """What ended the source: the task group that ran it tells of it in a group."""
    error: Exception = errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
