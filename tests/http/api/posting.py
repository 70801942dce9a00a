"""Posts events to an application in this process, also over a store that fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from muniment import AuditLog
from muniment.http import ServiceSettings, make_app
from muniment.http.access import Scope
from muniment.stores import open_store
from muniment.testing import FaultyStore
from tests.http.api.calling import Api

NDJSON: Final = "application/x-ndjson"


async def post(api: Api, event: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    """The answer to one event: its fields, or a body as it is."""
    body = json.dumps(event).encode() if isinstance(event, dict) else event
    given = {"Content-Type": "application/json", **(headers or {})}
    return await api.call("POST", "/v1/events", content=body, headers=given)


async def post_batch(
    api: Api, body: Any, headers: dict[str, str] | None = None, *, query: str = ""
) -> httpx.Response:
    """The answer to a batch: NDJSON unless the headers say otherwise."""
    given = {"Content-Type": NDJSON, **(headers or {})}
    return await api.call("POST", f"/v1/events/batch{query}", content=body, headers=given)


async def stored_actions(api: Api, tenant_id: str | None = None) -> list[str]:
    """The actions of all events that the store has, in the order of their recording."""
    found = await api.log.store.read(None, 100_000, tenant_id)
    return [json.loads(each.stored.body or "{}")["action"] for each in found]


@asynccontextmanager
async def over_faulty_store(url: str, **settings: Any) -> AsyncIterator[tuple[Api, FaultyStore]]:
    """The application over a store that fails when it is told to."""
    store = FaultyStore(open_store(url))
    async with AuditLog(store, sequence=False) as log:
        api = Api(make_app(log, ServiceSettings(**settings)), log)
        api.headers = await api.token(*Scope)
        yield api, store
        store.heal()
