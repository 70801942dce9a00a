"""The bodies of requests, as they arrive: their type, their encoding, their end."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any, Final

from litestar import Request

from muniment.http.problems import Refusal

_STEP: Final = 262_144
_GZIP: Final = 16 + zlib.MAX_WBITS
_CUT: Final = "The body is not whole: the connection broke."


def media_type_of(request: Request[Any, Any, Any], expected: Collection[str]) -> str:
    """The media type of the body, one of those expected. Raises a 415 for another one."""
    given, _, parameters = request.headers.get("content-type", "").partition(";")
    media_type = given.strip().lower()
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "').lower()
    if media_type not in expected or charset not in {"", "utf-8", "utf8"}:
        raise Refusal(
            415,
            "unsupported-media-type",
            f"Content-Type: give {' or '.join(sorted(expected))}, in UTF-8.",
            headers={"Accept-Post": ", ".join(sorted(expected))},
        )
    return media_type


async def body_of(request: Request[Any, Any, Any], most: int) -> bytes:
    """The whole body, decompressed. Raises a 413 for one over so many bytes."""
    return b"".join([chunk async for chunk in chunks_of(request, most)])


async def chunks_of(request: Request[Any, Any, Any], most: int) -> AsyncIterator[bytes]:
    """The body as it arrives, decompressed.

    Raises a 413 once there are over `most` bytes of it, a 400 if it does not end well.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        arriving = _arriving(request)
    elif encoding in {"gzip", "x-gzip"}:
        arriving = _gunzipped(_arriving(request))
    else:
        raise Refusal(
            415,
            "unsupported-encoding",
            f"Content-Encoding: {encoding[:100]!r} is not known here; give gzip, or none.",
            headers={"Accept-Encoding": "gzip"},
        )
    size = 0
    async for chunk in arriving:
        size += len(chunk)
        if size > most:
            raise Refusal(413, "too-large", f"The body is over {most:,} bytes.")
        yield chunk


async def _arriving(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    length = request.headers.get("content-length")
    size = 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Refusal(400, "cut-off", _CUT)
        chunk = message.get("body", b"")
        if chunk:
            size += len(chunk)
            yield chunk
        if not message.get("more_body", False):
            break
    if length is not None and length.isdecimal() and size < int(length):
        raise Refusal(400, "cut-off", _CUT)


async def _gunzipped(arriving: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes of one gzip member after the other (RFC 1952, section 2.2), in small steps."""
    member = zlib.decompressobj(_GZIP)
    is_inside = False
    async for chunk in arriving:
        rest = chunk
        while rest:
            if member.eof:
                member = zlib.decompressobj(_GZIP)
            is_inside = True
            for step in _inflated(member, rest):
                yield step
            rest = member.unused_data
    if not is_inside or not member.eof:
        raise Refusal(400, "malformed", "Content-Encoding: the body is not whole gzip.")


def _inflated(member: Any, rest: bytes) -> Iterator[bytes]:
    while rest and not member.eof:
        try:
            step = member.decompress(rest, _STEP)
        except zlib.error:
            raise Refusal(400, "malformed", "Content-Encoding: the body is not gzip.") from None
        rest = member.unconsumed_tail
        if step:
            yield step
