"""What is done about every answer: the headers that none goes without, and its measure."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any, Final

from litestar.datastructures import MutableScopeHeaders
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


async def add_headers(message: Message, scope: Scope) -> None:
    """Have no answer kept by a cache, or taken for what it isn't; what it says itself stands."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    if message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = set(headers["Allow"].split(", "))
    elif scope.get("method") == "OPTIONS" and message["status"] == HTTPStatus.NO_CONTENT:
        # Litestar's own answer forgets the methods that were registered after the first.
        path = scope["path_template"]
        methods = {
            method
            for route in scope["litestar_app"].routes
            if isinstance(route, HTTPRoute) and route.path_format == path
            for method in route.route_handler_map
        }
    else:
        return
    if "GET" in methods:
        methods.add("HEAD")
    headers["Allow"] = ", ".join(sorted(methods))


class Measured:
    """Middleware that counts requests and how long they took, by their route's template."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and take its measure."""
        began = time.perf_counter()
        status = 500

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            metrics = scope["litestar_app"].state.service.requests
            took = time.perf_counter() - began
            metrics.observe(str(scope.get("method")), scope["path_template"], status, took)
