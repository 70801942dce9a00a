"""Exports that are begun over HTTP, and waited for."""

from __future__ import annotations

import asyncio
from typing import Any

from muniment import Event
from tests.http.api.calling import Api
from tests.scripted import LONG


async def begin(
    api: Api, format: str, headers: dict[str, str] | None = None, **filters: Any
) -> str:
    """The path of a new export."""
    wanted = {"format": format, "filters": filters}
    begun = await api.call("POST", "/v1/exports", json=wanted, headers=headers or {})
    assert begun.status_code == 202, begun.text
    return f"/v1/{begun.headers['Location']}"


async def once_ended(api: Api, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What is said of an export once it is neither waiting nor running."""
    async with asyncio.timeout(LONG):
        while True:
            found: dict[str, Any] = (await api.get(path, headers=headers or {})).json()
            if found["state"] not in {"waiting", "running"}:
                return found
            await asyncio.sleep(0.01)


async def record(api: Api, count: int, tenant_id: str = "acme") -> list[str]:
    """The ids of so many new events."""
    receipts = await api.log.record_many(
        [Event(action="login", tenant_id=tenant_id, details={"n": n}) for n in range(count)]
    )
    return [receipt.event_id for receipt in receipts]
