"""Calls an application in this process: whole answers through httpx, streams by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
from litestar import Litestar

from muniment import AuditLog
from muniment.http import ServiceSettings, make_app
from muniment.http.access import Scope
from muniment.http.auth.secrets import issue
from muniment.http.service import Service
from muniment.sealing import utc_now
from tests.scripted import LONG

READER: Final = (Scope.READ, Scope.EXPORT)


class Api:
    """An application over an open log, and what a client of it needs."""

    def __init__(self, app: Litestar, log: AuditLog) -> None:
        self.app = app
        self.log = log
        self.service: Service = app.state.service
        self.headers: dict[str, str] = {}
        application: Any = app
        self._transport = httpx.ASGITransport(application)

    async def token(
        self,
        *scopes: Scope,
        tenant_id: str | None = None,
        expires_at: datetime | None = None,
    ) -> dict[str, str]:
        """The headers of a new token with those scopes."""
        issued = issue(
            "token",
            name="a test's",
            scopes=frozenset(scopes),
            tenant_id=tenant_id,
            created_at=utc_now(),
            expires_at=expires_at,
        )
        await self.log.store.credentials.add(issued.credential)
        return {"Authorization": f"Bearer {issued.secret}"}

    async def call(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The whole answer to a request; with our token unless `headers` has another."""
        headers = {**self.headers, **given.pop("headers", {})}
        async with httpx.AsyncClient(transport=self._transport, base_url="http://here") as client:
            return await client.request(method, path, headers=headers, **given)

    async def get(self, path: str, **given: Any) -> httpx.Response:
        """The whole answer to a GET."""
        return await self.call("GET", path, **given)

    def stream(self, path: str, **headers: str) -> Stream:
        """An answer that is read piece by piece: `async with api.stream(path) as stream:`."""
        return Stream(self.app, path, {**self.headers, **headers})


@asynccontextmanager
async def running(url: str, **settings: Any) -> AsyncIterator[Api]:
    """The application over a new log, with a token that may do anything."""
    keys = settings.pop("signing_keys", ())
    async with AuditLog.open(url, signing_keys=keys, sequence_interval=0.05) as log:
        app = make_app(log, ServiceSettings(**{"search_seconds": LONG, **settings}))
        async with _living(app):
            api = Api(app, log)
            api.headers = await api.token(*Scope)
            yield api


@asynccontextmanager
async def _living(app: Litestar) -> AsyncIterator[None]:
    """The application's life, in a task of its own: a fixture is ended by another than began it."""
    is_up, is_over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            is_up.set()
            await is_over.wait()

    task = asyncio.create_task(live())
    await is_up.wait()
    yield
    is_over.set()
    await task


class Stream:
    """A GET whose answer is taken piece by piece: the application waits until each is taken."""

    def __init__(self, app: Litestar, path: str, headers: dict[str, str]) -> None:
        parts = urlsplit(path)
        self._scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "server": ("here", 80),
            "client": ("127.0.0.1", 1),
        }
        self._app: Any = app
        self._sent: asyncio.Queue[Any] = asyncio.Queue(1)
        self._gone = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self._rest = b""

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._app(self._scope, self._receive, self._sent.put))
        start = await self._message()
        self.status = start["status"]
        self.headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Go away, as a client does that closes its connection."""
        self._gone.set()
        while not self.task.done():
            while not self._sent.empty():
                self._sent.get_nowait()
            await asyncio.wait([self.task], timeout=0.01)

    async def piece(self) -> bytes:
        """The next piece of the body; nothing at its end. Raises what the application raised."""
        return bytes((await self._message()).get("body", b""))

    async def message(self) -> str:
        """The next server-sent message, or comment."""
        while b"\n\n" not in self._rest:
            piece = await self.piece()
            if not piece:
                raise EOFError
            self._rest += piece
        found, _, self._rest = self._rest.partition(b"\n\n")
        return found.decode()

    async def rest(self) -> bytes:
        """The body to its end."""
        found = b""
        while piece := await self.piece():
            found += piece
        return found

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _message(self) -> Any:
        """What the application sends next."""
        wanted = asyncio.create_task(self._sent.get())
        async with asyncio.timeout(LONG):
            await asyncio.wait((wanted, self.task), return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done() and self._sent.empty():
                wanted.cancel()
                self.task.result()
                return {}
            return await wanted
