"""Imports a table of the shape (id, action, details, agent_id, user_id, created_at).

Columns `tenant_id` and `ip_address` are used where the table has them; what other columns hold is
kept in `details.other_columns`. The table is only read: `muniment.importers.tables` says how.

- tenant: the given one, else the column's, else `details.tenant_id`, else `system`
- actor: the agent, on behalf of the user if both are there; the user; else the system
- outcome: `details.success`, else `failure` for actions that end in `_failed`, else `unknown`
- targets: the user named by `details.target_user_id`
- reason: `details.error`; organization_id: `details.organization_id`
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, date, datetime
from typing import Any, Final

from muniment.errors import InvalidEvent
from muniment.event import SYSTEM_TENANT, Actor, Context, Event, Outcome, Target
from muniment.importers.base import Importer, Item, Progress
from muniment.importers.tables import AuditTable
from muniment.salvage import salvage_details, salvage_id, salvage_text

_KNOWN_COLUMNS: Final = frozenset(
    {"id", "action", "details", "agent_id", "user_id", "created_at", "tenant_id", "ip_address"}
)
_MILLISECONDS_FROM: Final = 10**11
_MICROSECONDS_FROM: Final = 10**14


class AuditLogsImporter(Importer):
    """Reads the table `table` of the database at `url` (PostgreSQL or SQLite).

    With `tenant_id`, every event is recorded under that tenant.
    """

    def __init__(
        self, url: str, *, table: str = "audit_logs", tenant_id: str | None = None
    ) -> None:
        self._table = AuditTable(url, table)
        self._tenant_id = tenant_id
        self._after: str | None = None
        self._read = 0
        self.name = f"{table} at {self._table.place}"

    def resume(self, position: str | None) -> None:
        """Go on behind the item with that position: the last one an interrupted run recorded."""
        self._after = position

    async def items(self) -> AsyncGenerator[Item, None]:
        """One item for each row of the table, in order of (created_at, id)."""
        name = self._table.name
        async with aclosing(self._table.rows(after=self._after)) as rows:
            async for row, position in rows:
                self._read += 1
                where = f"{name} id {row.get('id')}"
                try:
                    event = event_of_row(row, table=name, tenant_id=self._tenant_id)
                except InvalidEvent as problem:
                    yield Item(where=where, problem=problem, position=position)
                else:
                    yield Item(where=where, event=event, position=position)

    def progress(self) -> Progress:
        """How many rows were read; counting them beforehand would read the whole table."""
        return Progress(self._read, None)


def event_of_row(
    row: Mapping[str, Any], *, table: str = "audit_logs", tenant_id: str | None = None
) -> Event:
    """The event that a row of the table tells of. Raises `InvalidEvent`, naming the column."""
    source_id = salvage_id(row.get("id"))
    if source_id is None:
        raise InvalidEvent("id", "is NULL, so the event would be stored anew each time")
    details = _details(row)
    occurred_at = parse_created_at(row.get("created_at"))
    context = Context(ip=_address(row.get("ip_address")))
    target = salvage_id(details.get("target_user_id"))
    action = salvage_id(row.get("action"))
    if action is None:
        raise InvalidEvent("action", "is empty")
    return Event(
        action=action,
        tenant_id=_tenant(row, details, tenant_id),
        idempotency_key=salvage_id(f"audit_logs:{table}:{source_id}"),
        occurred_at=occurred_at,
        actor=_actor(row),
        outcome=_outcome(action, details),
        reason=salvage_text(details.get("error")),
        targets=() if target is None else (Target("user", target),),
        context=context,
        details=salvage_details(details),
        organization_id=salvage_id(details.get("organization_id")),
    )


def parse_created_at(value: Any) -> datetime:
    """The aware time of a `created_at`: a datetime, ISO 8601 text, or a number of Unix time.

    What has no offset is UTC. Numbers are seconds, milliseconds or microseconds, by their size.
    """
    moment = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        moment = _of_number(value)
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
        except ValueError:
            raise InvalidEvent("created_at", f"{value!r:.60} is not ISO 8601") from None
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise InvalidEvent(
            "created_at", "is NULL" if value is None else f"{value!r:.60} is no time"
        )
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _of_number(value: float) -> datetime:
    scale = (
        1_000_000
        if abs(value) >= _MICROSECONDS_FROM
        else 1000
        if abs(value) >= _MILLISECONDS_FROM
        else 1
    )
    try:
        return datetime.fromtimestamp(value / scale, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidEvent("created_at", f"{value!r} is out of the range of times") from None


def _details(row: Mapping[str, Any]) -> dict[str, Any]:
    given = row.get("details")
    if isinstance(given, bytes):
        given = given.decode(errors="backslashreplace")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = {"value": given}
    if given is None:
        given = {}
    details = given if isinstance(given, dict) else {"value": given}
    others = {k: v for k, v in row.items() if k not in _KNOWN_COLUMNS and v is not None}
    if others:
        details = {**details, "other_columns": others}
    return details


def _tenant(row: Mapping[str, Any], details: Mapping[str, Any], given: str | None) -> str:
    return (
        given
        or salvage_id(row.get("tenant_id"))
        or salvage_id(details.get("tenant_id"))
        or SYSTEM_TENANT
    )


def _actor(row: Mapping[str, Any]) -> Actor:
    user_id, agent_id = salvage_id(row.get("user_id")), salvage_id(row.get("agent_id"))
    user = None if user_id is None else Actor.user(user_id)
    if agent_id is not None:
        return Actor.agent(agent_id, on_behalf_of=user)
    return user or Actor.system()


def _outcome(action: str, details: Mapping[str, Any]) -> Outcome:
    success = details.get("success")
    if isinstance(success, bool):
        return Outcome.SUCCESS if success else Outcome.FAILURE
    return Outcome.FAILURE if action.endswith("_failed") else Outcome.UNKNOWN


def _address(value: Any) -> str | None:
    """The address; PostgreSQL's `inet` adds the length of the whole address as a network."""
    text = salvage_id(value)
    return None if text is None else text.removesuffix("/32").removesuffix("/128")
