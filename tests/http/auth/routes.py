"""Every route of the service, and calls of each that a caller of another tenant might try."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from muniment.http.access import COOKIE_KEY, PUBLIC, SCOPE_KEY, Scope
from tests.http.auth.calling import SAME_ORIGIN, Site
from tests.scripted import LONG

SECRET: Final = "s3cr3t-of-globex"  # noqa: S105 - to see where it turns up
"""Stands in every event of the tenant globex."""
STREAMS: Final = frozenset({"/v1/tail", "/live/stream"})
"""They have no end: a call goes on until it has an event of acme, so none may be left out."""


class Route(NamedTuple):
    """One method of one path: the scope it asks for, and whether a session may do it."""

    method: str
    path: str
    scope: Scope
    takes_cookie: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_for_sessions(self) -> bool:
        """Whether a viewer session may call it."""
        return self.method == "GET" or self.takes_cookie

    def at(self, **ids: str) -> str:
        """The path with these parts."""
        path = self.path.replace("{name:str}", ids["event_id"])
        for name in ("event_id", "export_id"):
            path = path.replace(f"{{{name}:str}}", ids[name])
        assert "{" not in path, f"say what {self.path} is called with"
        return path


def routes_of(app: Litestar) -> list[Route]:
    """Every route that is not for everybody. None may be silent about who may call it."""
    return [
        Route(method, route.path, handler.opt[SCOPE_KEY], bool(handler.opt.get(COOKIE_KEY)))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in sorted(handler.http_methods)
        if method != "OPTIONS" and handler.opt[SCOPE_KEY] != PUBLIC
    ]


def bodies(route: Route, tenant_id: str | None) -> Iterator[Any]:
    """What may be sent to a route that takes something, for that tenant."""
    event = {"action": "login", "actor": {"type": "user", "id": "u1"}}
    if tenant_id is not None:
        event["tenant_id"] = tenant_id
    filters = {} if tenant_id is None else {"tenant_id": tenant_id}
    if route.path == "/v1/events":
        yield event
    elif route.path == "/v1/events/batch":
        yield [event]
    elif route.path == "/v1/exports":
        yield {"format": "jsonl", "filters": filters}
        yield {"format": "evidence", "filters": filters}
    elif route.path == "/v1/viewer-links":
        yield {"tenant_id": tenant_id or "acme"}
    else:
        assert route.method in {"GET", "DELETE"}, f"say what {route} is sent"
        yield None


class Given(NamedTuple):
    """The answer to a call, or its beginning if it has no end."""

    status: int
    body: bytes
    headers: dict[str, str]


async def call(
    site: Site, method: str, url: str, headers: dict[str, str], sent: Any = None
) -> Given:
    """The answer; of a stream of events what comes until an event of acme's does."""
    parts = urlsplit(url)
    body = b"" if sent is None else msgspec.json.encode(sent)
    if sent is not None:
        headers = {"Content-Type": "application/json", **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in {"Host": "audit.test", **headers}.items()
        ],
        "server": ("audit.test", 80),
        "client": ("192.0.2.7", 5),
    }
    requests = [{"type": "http.request", "body": body, "more_body": False}]
    arrived, gone = asyncio.Condition(), asyncio.Event()
    messages: list[Any] = []

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        async with arrived:
            messages.append(message)
            arrived.notify_all()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            gone.set()

    def text() -> bytes:
        return b"".join(message.get("body", b"") for message in messages)

    app: Any = site.app
    task = asyncio.create_task(app(scope, receive, send))
    try:
        async with asyncio.timeout(LONG), arrived:
            await arrived.wait_for(lambda: messages)
        start = {k.decode().lower(): v.decode() for k, v in messages[0]["headers"]}
        if start.get("content-type", "").startswith("text/event-stream"):
            await site.log.record(SECRET, tenant_id="globex")
            beacon = (await site.log.record("beacon", tenant_id="acme")).event_id.encode()
            async with asyncio.timeout(LONG), arrived:
                await arrived.wait_for(lambda: beacon in text())
            gone.set()
        await asyncio.wait_for(task, LONG)
    finally:
        gone.set()
        task.cancel()
    return Given(messages[0]["status"], text(), start)


def shown(kind: str, secret: str) -> dict[str, str]:
    """The headers that show a credential of a kind, as a program or our own page does."""
    if kind == "session":
        return {"Cookie": f"muniment_session={secret}", **SAME_ORIGIN}
    return {"Authorization": f"Bearer {secret}"}
