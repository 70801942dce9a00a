"""A proxy before a PostgreSQL, which does to its answers what networks do."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from typing import Final, Literal, Self

from sqlalchemy.engine import make_url

_CHUNK: Final = 2**16
_WRITES: Final = (b"COPY ", b"INSERT ", b"COMMIT")
_COMMAND_COMPLETE: Final = b"C"
_READY_FOR_QUERY: Final = b"Z"
_NO_TRANSACTION: Final = b"I"


class Proxy:
    """Passes everything on until it is told otherwise: `async with Proxy(server_url) as proxy:`.

    What it is told goes for the connections that there are, and for those to come. `cuts` counts
    the answers that were cut.
    """

    def __init__(self, url: str) -> None:
        self._upstream = make_url(url)
        self._mode: Literal["pass_on", "cut_answers", "turn_away"] = "pass_on"
        self._delay = 0.0
        self._requests_pass = asyncio.Event()
        self._requests_pass.set()
        self._links: set[asyncio.Task[None]] = set()
        self._clients: set[StreamWriter] = set()
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def url(self) -> str:
        """The URL of the database, through the proxy, which doesn't read TLS."""
        url = self._upstream.set(host="127.0.0.1", port=self._port)
        return url.update_query_dict({"sslmode": "disable"}).render_as_string(hide_password=False)

    def pass_on(self) -> None:
        """Do nothing to what goes through; what was held goes on."""
        self._set("pass_on")

    def cut_answers(self) -> None:
        """Cut the connection once a write is committed, before its answer is through."""
        self._set("cut_answers")

    def turn_away(self) -> None:
        """Cut all connections, and end new ones at once."""
        self._set("turn_away")
        for client in self._clients:
            client.transport.abort()

    def never_answer(self) -> None:
        """Accept connections and requests, and hold them."""
        self._requests_pass.clear()

    def delay(self, seconds: float) -> None:
        """Let each answer take so much longer."""
        self._set("pass_on", delay=seconds)

    def _set(
        self, mode: Literal["pass_on", "cut_answers", "turn_away"], *, delay: float = 0.0
    ) -> None:
        self._mode = mode
        self._delay = delay
        self._requests_pass.set()

    async def _accept(self, reader: StreamReader, client: StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self._clients.add(client)
        try:
            if self._mode != "turn_away":
                await self._link(reader, client)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # one side is gone, or the test is over
        finally:
            client.transport.abort()
            self._clients.discard(client)
            self._links.discard(link)

    async def _link(self, reader: StreamReader, client: StreamWriter) -> None:
        host, port = self._upstream.host, self._upstream.port or 5432
        answers, server = await asyncio.open_connection(host, port)
        pumps = {
            asyncio.ensure_future(self._pass_requests(reader, server)),
            asyncio.ensure_future(self._pass_answers(answers, client)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pass_requests(self, reader: StreamReader, server: StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._requests_pass.wait()
            server.write(data)
            await server.drain()

    async def _pass_answers(self, answers: StreamReader, client: StreamWriter) -> None:
        """Message by message (PostgreSQL's protocol 3): a letter, a length, the rest.

        CommandComplete is held until ReadyForQuery says that no transaction is open any more: only
        then is what it completes committed.
        """
        completed = b""
        held = b""
        while True:
            head = await answers.readexactly(5)
            kind, size = head[:1], int.from_bytes(head[1:], "big") - 4
            rest = await answers.readexactly(size)
            held += head + rest
            if kind == _COMMAND_COMPLETE:
                completed = rest
            elif kind == _READY_FOR_QUERY:
                is_committed = rest == _NO_TRANSACTION and completed.startswith(_WRITES)
                if is_committed and self._mode == "cut_answers":
                    self.cuts += 1
                    return
                await asyncio.sleep(self._delay)
                completed = b""
            if not completed:
                client.write(held)
                held = b""
                await client.drain()
