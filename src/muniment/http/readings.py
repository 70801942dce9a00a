"""Reading the trail is itself recorded: who looked at what, and who took what away."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec

from muniment.event import SYSTEM_TENANT, Outcome
from muniment.http.access import Caller
from muniment.log import AuditLog

VIEW_ACTION: Final = "audit.view"
EXPORT_ACTION: Final = "audit.export"
SAME_VIEW_SECONDS: Final = 60.0
_REMEMBERED: Final = 4_096
_Key = tuple[str, str, str | None, bytes]


class Readings:
    """Records `audit.view` and `audit.export`, in the log that is read.

    They are recorded for the tenant that is read, `system` for all of them, durably before the
    method returns, so that nothing is shown unrecorded. Methods raise as `AuditLog.record` does.
    """

    def __init__(
        self, log: AuditLog, *, is_on: bool, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._is_on = is_on
        self._monotonic = monotonic
        self._views: OrderedDict[_Key, tuple[float, asyncio.Task[None]]] = OrderedDict()

    async def view(self, caller: Caller, tenant_id: str | None, what: dict[str, Any]) -> None:
        """Record that a caller looked at `what`, unless the same one did within the last minute.

        `what` is any JSON: it becomes the event's details. The minute begins with the view that
        was recorded; a caller that looks on all day is recorded every minute.
        """
        if not self._is_on:
            return
        key = (caller.kind, caller.id, tenant_id, msgspec.json.encode(what, order="sorted"))
        known = self._views.get(key)
        if known is None or self._monotonic() - known[0] >= SAME_VIEW_SECONDS:
            task = asyncio.create_task(self._record(VIEW_ACTION, caller, tenant_id, what))
            known = (self._monotonic(), task)
            self._views[key] = known
            self._views.move_to_end(key)
            if len(self._views) > _REMEMBERED:
                self._views.popitem(last=False)
        try:
            await asyncio.shield(known[1])  # the same view at the same time waits for it too
        except Exception:
            if self._views.get(key) is known:
                del self._views[key]
            raise

    async def export(self, caller: Caller, tenant_id: str | None, what: dict[str, Any]) -> None:
        """Record, durably before it returns, that a caller takes `what` away."""
        if self._is_on:
            await self._record(EXPORT_ACTION, caller, tenant_id, what)

    async def _record(
        self, action: str, caller: Caller, tenant_id: str | None, what: dict[str, Any]
    ) -> None:
        await self._log.record(
            action,
            on_error="raise",
            tenant_id=tenant_id or SYSTEM_TENANT,
            actor=caller.actor,
            outcome=Outcome.SUCCESS,
            context=caller.context,
            details={**what, "credential": {"kind": caller.kind, "id": caller.id}},
        )
