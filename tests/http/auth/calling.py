"""Calls the service as its callers do: with tokens, cookies, and a clock that tests can move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from litestar import Litestar

from muniment import AuditLog, Event
from muniment.http import ServiceSettings, make_app
from muniment.http.access import Scope
from muniment.http.auth.identifying import Identify
from muniment.http.auth.lookup import Lookup
from muniment.http.auth.tokens import create_token
from muniment.http.service import Service
from muniment.stores.base import Store
from muniment.testing import FaultyStore

BASE: Final = "http://audit.test"
SAME_ORIGIN: Final = {"Sec-Fetch-Site": "same-origin"}


class Clock:
    """Clocks that tests move: `passed` seconds on both, `ahead` more on the one of the day."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.ahead = 0.0

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC) + timedelta(seconds=self.passed + self.ahead)

    def monotonic(self) -> float:
        """Seconds that have passed."""
        return self.passed


class Site:
    """The application over an open log; credentials are looked up by `clock`."""

    def __init__(self, app: Litestar, log: AuditLog, *, root_path: str = "") -> None:
        self.app = app
        self.log = log
        self.service: Service = app.state.service
        self.clock = Clock()
        self.lookup = Lookup(log, clock=self.clock.now, monotonic=self.clock.monotonic)
        self.service.identifier.lookup = self.lookup
        self._root_path = root_path

    async def token(
        self,
        *scopes: Scope,
        tenant_id: str | None = "acme",
        lifetime: timedelta | None = None,
    ) -> str:
        """The secret of a new token."""
        issued = await create_token(
            self.log, name="billing", scopes=scopes, tenant_id=tenant_id, lifetime=lifetime
        )
        return issued.secret

    def client(self, secret: str | None = None, *, base_url: str = BASE) -> httpx.AsyncClient:
        """A client, which keeps cookies; with that token, if there is one."""
        app: Any = self.app
        transport = httpx.ASGITransport(app, root_path=self._root_path, client=("192.0.2.7", 5))
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers)

    async def link(self, **body: Any) -> str:
        """The path and query of a new viewer link."""
        admin = await self.token(Scope.ADMIN, tenant_id=None)
        async with self.client(admin) as client:
            made = await client.post("/v1/viewer-links", json={"tenant_id": "acme", **body})
        assert made.status_code == 201, made.text
        parts = urlsplit(made.json()["url"])
        return f"{parts.path}?{parts.query}"

    @asynccontextmanager
    async def viewing(self, **body: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A client with a viewer session of tenant acme."""
        link = await self.link(**body)
        async with self.client() as client:
            assert (await client.get(link)).status_code == 303
            yield client

    async def events(self, action: str, tenant_id: str | None = None) -> list[Event]:
        """The events of an action, the oldest first."""
        page = await self.log.search(action=action, tenant_id=tenant_id, order="oldest", limit=1000)
        return list(page.events)


@asynccontextmanager
async def serving(
    url: str,
    *,
    root_path: str = "",
    wrap: bool = False,
    identify: Identify | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """The application over a new log; `wrap` puts a `FaultyStore` between."""
    log = AuditLog.open(url)
    if wrap:
        store: Store = FaultyStore(log.store)
        log = AuditLog(store)
    async with log:
        app = make_app(log, ServiceSettings(**settings), identify=identify)
        async with _alive(app):
            yield Site(app, log, root_path=root_path)


@asynccontextmanager
async def _alive(app: Litestar) -> AsyncIterator[None]:
    """The application between its start and its end, both in one task: a fixture has two."""
    started, ending = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await ending.wait()

    task = asyncio.create_task(live())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    yield
    ending.set()
    await task


def cookie_of(response: httpx.Response) -> tuple[str, set[str]]:
    """The value of the session cookie that is set, and its attributes."""
    (header,) = response.headers.get_list("set-cookie")
    pair, *attributes = header.split("; ")
    name, _, value = pair.partition("=")
    assert name == "muniment_session"
    return value, set(attributes)


def query_of(url: str) -> dict[str, str]:
    """The query of a URL."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}


def all_but(scope: Scope | None, scopes: Iterable[Scope] = Scope) -> list[Scope]:
    """The scopes without one."""
    return [each for each in scopes if each is not scope]
