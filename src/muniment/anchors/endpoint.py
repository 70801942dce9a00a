"""Checkpoints put to an HTTP endpoint: one URL each, written once."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from muniment.anchors.base import (
    DEFAULT_TIMEOUT,
    Anchor,
    Prove,
    Unreachable,
)
from muniment.anchors.http import HttpClient, Reply, said_in
from muniment.checkpoint import checkpoint_in, text_of
from muniment.errors import AnchorError
from muniment.stores.trees import Published

_ATTEMPTS: Final = 3
_HEADERS: Final = {"Content-Type": "text/plain; charset=utf-8", "If-None-Match": "*"}


class HttpAnchor(Anchor):
    """PUTs each checkpoint's note to a URL of its own, with `If-None-Match: *`: never over another.

    `{origin}` in the URL stands for the log, percent-encoded as one path segment, and `{size}` for
    the tree size; a URL without them gets `/{origin}/{size}` at its end. 2xx means that it is kept.
    Where something is there already (409 or 412), it is read back and compared.
    """

    def __init__(self, name: str, url: str, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(name, timeout=timeout)
        self._client = HttpClient(name, url)

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        del prove
        origin = checkpoint_in(checkpoint.note).origin
        fill = {"{origin}": quote(origin, safe=""), "{size}": str(checkpoint.tree_size)}
        reply = await self._patiently(fill, checkpoint.note.encode())
        if reply.code in (409, 412):
            await self._check_same(fill, checkpoint.note)
        elif not 200 <= reply.code < 300:
            raise AnchorError(f"{self.name}: refuses with {reply.code}{said_in(reply)}")
        return None

    async def _patiently(self, fill: dict[str, str], body: bytes) -> Reply:
        """The answer, after a connection that was lost on the way at most twice."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._client.ask("PUT", fill, body=body, headers=_HEADERS)
            except Unreachable:
                continue
        return await self._client.ask("PUT", fill, body=body, headers=_HEADERS)

    async def _check_same(self, fill: dict[str, str], note: str) -> None:
        reply = await self._client.ask("GET", fill)
        if reply.code != 200:
            raise AnchorError(
                f"{self.name}: holds something under this size, and does not show it: {reply.code}"
            )
        # Signatures may have come since: it is the text that says what the log claims.
        if text_of(reply.body.decode(errors="replace")) != text_of(note):
            raise AnchorError(
                f"{self.name}: another checkpoint of {fill['{size}']} leaves is there: a fork. The "
                "log signed two different trees, or it was altered there; compare the two"
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
