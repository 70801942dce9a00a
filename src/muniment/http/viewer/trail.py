"""What the page of the trail looks up: the events of a range, and their counts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from muniment import filter_language
from muniment.counting import Counted
from muniment.errors import InvalidQuery
from muniment.event import Event
from muniment.http.access import Caller
from muniment.http.service import Service
from muniment.query import Order, Page, make_filter

PAGE: Final = 50
BARS: Final = 60
PRESETS: Final = ("1h", "24h", "7d", "30d", "all")
DEFAULT_SINCE: Final = "7d"
_BUDGET: Final = 0.05
"""Seconds that counting may take for what isn't counted yet; the whole page has 0.15."""


class Question(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The query of the page: its whole state. `q` is in the filter language."""

    q: str = ""
    tenant_id: str | UnsetType = UNSET
    since: str | UnsetType = UNSET
    until: str | UnsetType = UNSET
    order: Order = "newest"
    cursor: str | UnsetType = UNSET
    lang: Literal["en", "zh"] | UnsetType = UNSET


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in [since, until); the bars of `counted` may begin before and end after that.

    `conditions` are those of `q`; `newest` is a hint where nothing was found.
    """

    question: Question
    tenant_id: str | None
    conditions: dict[str, Any]
    since: datetime
    until: datetime
    page: Page
    counted: Counted
    newest: Event | None = None

    @property
    def preset(self) -> str | None:
        """The beginning of the range as it was asked for, if it has no other end than now."""
        if self.conditions.get("until") or _given(self.question.until):
            return None
        found: str = self.conditions.get("since") or _given(self.question.since) or DEFAULT_SINCE
        return found


async def look(service: Service, caller: Caller, question: Question) -> Trail:
    """The events and counts that a question asks for, read for a caller and recorded as such.

    Raises `InvalidQuery`, and a 403 for another tenant.
    """
    log = service.log
    conditions = filter_language.parse(question.q)
    tenant_id = caller.tenant(_agreed_tenant(conditions, question))
    # What is typed goes before what the page was at.
    since = conditions.get("since") or _given(question.since) or DEFAULT_SINCE
    until = conditions.get("until") or _given(question.until)
    filters = {**conditions, "tenant_id": tenant_id, "until": until}
    filters["since"] = await _beginning(service, filters) if since == "all" else since
    now = datetime.now(UTC)
    wanted = make_filter(now=now, given=filters)  # list and counts are of the same moment
    filters |= {"since": wanted.since, "until": wanted.until}
    # Recorded before anything is shown, and so are searches that find nothing.
    _, page, counted = await asyncio.gather(
        service.readings.view(caller, tenant_id, _described(question)),
        log.search(**filters, order=question.order, limit=PAGE, cursor=_given(question.cursor)),
        log.count(**filters, bars=BARS, budget=_BUDGET),
    )
    newest = None
    if not page.events and question.cursor is UNSET:
        wider = await log.search(**{**filters, "since": None, "until": None}, limit=1)
        newest = wider.events[0] if wider.events else None
    return Trail(
        question=question,
        tenant_id=tenant_id,
        conditions=conditions,
        since=wanted.since or counted.since,
        until=wanted.until or now,
        page=page,
        counted=counted,
        newest=newest,
    )


async def _beginning(service: Service, filters: dict[str, Any]) -> datetime | None:
    """When the tenant's first event happened."""
    first = await service.log.search(tenant_id=filters["tenant_id"], order="oldest", limit=1)
    return first.events[0].occurred_at if first.events else None


def _agreed_tenant(conditions: dict[str, Any], question: Question) -> str | None:
    """The tenant, which may stand in `q` and beside it."""
    there, beside = conditions.get("tenant_id"), _given(question.tenant_id)
    if there is not None and beside is not None and there != beside:
        raise InvalidQuery("tenant_id", "is given in the query and beside it, and they differ")
    return there or beside


def _given(value: str | UnsetType) -> str | None:
    return None if value is UNSET or not value else value


def _described(question: Question) -> dict[str, Any]:
    """What is recorded of the view: the question, without where a page of it begins."""
    kept = msgspec.structs.replace(question, cursor=UNSET, lang=UNSET)
    return {"what": "trail", **msgspec.to_builtins(kept)}
