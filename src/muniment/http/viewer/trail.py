"""What the page of the trail looks up: the events of a range, and their counts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from muniment import filter_language
from muniment.actions import Activity
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
WITHOUT_READINGS: Final[tuple[Activity, ...]] = ("people", "background")
_KINDS: Final = frozenset({"activity", "action", "category"})
_BUDGET: Final = 0.05
"""Seconds that counting may take for what isn't counted yet; the whole page has 0.15."""
_SEARCH_BUDGET: Final = 0.5
"""Seconds that text, and conditions that are seldom true together, are looked for."""


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

    `conditions` are those of `q`, `asked` what was looked for. Where nothing was found `newest` is
    a hint at the newest such event of another time, and `newest_searched_to` how far back that was
    looked for, if the time for it ended first.
    """

    question: Question
    tenant_id: str | None
    conditions: dict[str, Any]
    asked: dict[str, Any]
    since: datetime
    until: datetime
    page: Page
    counted: Counted
    newest: Event | None = None
    newest_searched_to: datetime | None = None

    @property
    def leaves_readings_out(self) -> bool:
        """Whether readings of the trail are left out without anybody having said so."""
        return self.asked != self.conditions

    @property
    def preset(self) -> str | None:
        """The beginning of the range as it was asked for, if it has no other end than now."""
        if self.conditions.get("until") or _given(self.question.until):
            return None
        found: str = self.conditions.get("since") or _given(self.question.since) or DEFAULT_SINCE
        return found


def leaving_readings_out(conditions: dict[str, Any]) -> dict[str, Any]:
    """The conditions, and that readings of the trail are not asked for unless one says what is.

    Every look at a page is a reading: without this, the trail would show its readers themselves.
    """
    if _KINDS.isdisjoint(conditions):
        return {**conditions, "activity": list(WITHOUT_READINGS)}
    return conditions


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
    asked = leaving_readings_out(conditions)
    filters = {**asked, "tenant_id": tenant_id, "until": until}
    filters["since"] = await _beginning(service, filters) if since == "all" else since
    now = datetime.now(UTC)
    wanted = make_filter(now=now, given=filters)  # list and counts are of the same moment
    filters |= {"since": wanted.since, "until": wanted.until}
    # Recorded before anything is shown, and so are searches that find nothing.
    _, page, counted = await asyncio.gather(
        service.readings.view(caller, tenant_id, _described(question)),
        log.search(
            **filters,
            order=question.order,
            limit=PAGE,
            cursor=_given(question.cursor),
            budget=_SEARCH_BUDGET,
        ),
        log.count(**filters, bars=BARS, budget=_BUDGET),
    )
    hint = Page(events=[])
    if not page.events and page.next_cursor is None and question.cursor is UNSET:
        hint = await _newest(service, filters)
    return Trail(
        question=question,
        tenant_id=tenant_id,
        conditions=conditions,
        asked=asked,
        since=wanted.since or counted.since,
        until=wanted.until or now,
        page=page,
        counted=counted,
        newest=hint.events[0] if hint.events else None,
        newest_searched_to=hint.searched_to,
    )


async def _newest(service: Service, filters: dict[str, Any]) -> Page:
    """A page of the newest event after or before a range that holds none."""
    ranges = [(filters["until"], None)] if filters["until"] else []
    if filters["since"]:
        ranges.append((None, filters["since"]))
    found = Page(events=[])
    for since, until in ranges:
        asked = {**filters, "since": since, "until": until}
        found = await service.log.search(**asked, limit=1, budget=_SEARCH_BUDGET)
        if found.events or found.searched_to:
            break
    return found


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
