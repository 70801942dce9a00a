"""Answers that are made while they are sent, and what becomes of them if that fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
from litestar import Litestar, get

from muniment.http.problems import Refusal, answer
from muniment.http.streaming import Streamed


def _client(*pieces: bytes) -> httpx.AsyncClient:
    """A client of a stream of those pieces, at whose end the service closes."""

    async def source() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece
        raise Refusal(503, "closing", "The service ends.")

    @get("/")
    async def stream() -> Streamed:
        return Streamed(source(), media_type="application/x-ndjson")

    app = Litestar([stream], exception_handlers={Exception: answer})
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # it is stricter than ASGI
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_what_fails_before_its_first_piece_is_told() -> None:
    """Nothing was said yet: the answer is the problem, and not a part of what was asked for."""
    async with _client() as client:
        answered = await client.get("/")
    assert (answered.status_code, answered.json()["type"]) == (503, "urn:muniment:problem:closing")


async def test_what_fails_later_breaks_the_answer_off() -> None:
    """The server is told by an error, and does not send the end of a body."""
    async with _client(b"first\n") as client:
        with pytest.raises(Exception, match="after response started"):
            await client.get("/")
