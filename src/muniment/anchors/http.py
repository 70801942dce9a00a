"""The HTTP client that anchors speak through. It alone imports aiohttp, of the extra `witness`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import msgspec
from yarl import URL

from muniment.anchors.base import Unreachable

_CONNECTIONS: Final = 16
_MAX_ANSWER: Final = 1_100_000  # a note of the largest size, and then some


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a server answered."""

    code: int
    media_type: str
    body: bytes


class HttpClient:
    """Requests to one server over kept connections, opened when first needed.

    Redirects are not followed: whoever named the URL named the place. It belongs to one event loop.
    """

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._bare, self._headers = _without_account(url)
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: str,
        fill: Mapping[str, str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """The answer; `fill` are texts to put in place of others in the URL.

        Raises `Unreachable`, also for the answers that say "not now": 408, 429 and 5xx.
        """
        url = self._bare
        for placeholder, text in fill.items():
            url = url.replace(placeholder, text)
        try:
            async with self._opened().request(
                method,
                URL(url, encoded=True),
                data=body,
                headers={**self._headers, **(headers or {})},
                allow_redirects=False,
            ) as response:
                content = await response.content.read(_MAX_ANSWER)
                while len(content) < _MAX_ANSWER:
                    more = await response.content.read(_MAX_ANSWER - len(content))
                    if not more:
                        break
                    content += more
                reply = Reply(code=response.status, media_type=response.content_type, body=content)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise Unreachable(f"{self._name}: can't be reached: {said}") from None
        if reply.code in (408, 429) or reply.code >= 500:
            raise Unreachable(f"{self._name}: answers {reply.code}{said_in(reply)}")
        return reply

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                # Whoever asks sets the time, for all that belongs to one checkpoint.
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def said_in(reply: Reply) -> str:
    """The first line of an answer, for a message, if it is text to be read."""
    first = reply.body[:200].decode(errors="replace").strip().partition("\n")[0]
    return f": {first}" if first.isprintable() and first and "<" not in first else ""


def _without_account(url: str) -> tuple[str, dict[str, str]]:
    """The URL without user and password, and the header that carries them."""
    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    token = base64.b64encode(unquote(account).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {token}"}
