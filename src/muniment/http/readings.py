"""Reading the trail is itself recorded: who looked at what, and who took what away."""

from __future__ import annotations

from typing import Any

from muniment.http.access import Caller
from muniment.log import AuditLog


class Readings:
    """Records `audit.view` and `audit.export`, in the log that is read."""

    def __init__(self, log: AuditLog, *, is_on: bool) -> None:
        self._log = log
        self._is_on = is_on

    async def view(self, caller: Caller, tenant_id: str | None, what: dict[str, Any]) -> None:
        """Record that a caller looked at `what`, unless the same one did within the last minute."""

    async def export(self, caller: Caller, tenant_id: str | None, what: dict[str, Any]) -> None:
        """Record, durably before it returns, that a caller takes `what` away."""
