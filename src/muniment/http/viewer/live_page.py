"""The page of the live tail, the stream that feeds it, and its JSON twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, UnsetType

from muniment import filter_language
from muniment.actions import Activity
from muniment.event import Event
from muniment.formats import body_of
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import asks, json_of
from muniment.http.api.tailing import open_tail
from muniment.http.api.wire import Tail
from muniment.http.service import Service
from muniment.http.viewer.rendering import linker, page, piece, tools_of
from muniment.http.viewer.sentences import Part, plain, sentence_of
from muniment.http.viewer.trail import WITHOUT_READINGS, Question, leaving_readings_out

_AT_FIRST: Final = 25
_BUDGET: Final = 0.5
"""Seconds that it may take to find what is shown at first."""
_KEPT: Final = 500
"""Events that the page holds; and as many that wait while it is paused."""


class Asked(Question, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The query of the page and of its stream: of the trail's, `q` and `tenant_id` count."""

    after: str | UnsetType = UNSET

    def tail(self) -> Tail:
        """The query of the tail that it asks for."""
        return Tail(
            q=self.q or UNSET,
            activity=WITHOUT_READINGS if self.leaves_readings_out() else UNSET,
            tenant_id=self.tenant_id or UNSET,
            after=self.after or UNSET,
        )

    def leaves_readings_out(self) -> bool:
        """Whether readings of the trail are left out without `q` saying so."""
        conditions = filter_language.parse(self.q)
        return leaving_readings_out(conditions) != conditions


class LiveEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the list, as the template takes it; `tenant_id` is shown where there are many."""

    event: Event
    sentence: list[Part]
    url: str
    tenant_id: str | None


class ListedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the twin: its stored body, and its sentence."""

    event: msgspec.Raw
    sentence: str


class LiveTwin(msgspec.Struct, frozen=True, kw_only=True):
    """The newest events, as JSON, and the URL of the stream that goes on."""

    q: str
    tenant_id: str | None
    events: list[ListedEvent]
    stream_url: str


_DEPENDENCIES = {"asked": asks(Asked)}


@get("/live", dependencies=_DEPENDENCIES, opt={SCOPE_KEY: Scope.READ}, include_in_schema=False)
async def live_page(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Asked],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[str]:
    """The newest events, and those that are recorded while the page is open."""
    events = await _newest(asked, caller, service)
    links, shown = linker(request), _shower(request, caller, service)
    return page(
        request,
        "live.html",
        {
            "q": asked.q,
            "rows": [shown(event) for event in events],
            "most": _KEPT,
            "with_readings_url": _with_readings(asked, links),
            "kept": [
                (name, value)
                for name in ("tenant_id", "lang")
                if (value := getattr(asked, name)) is not UNSET
            ],
            "live_url": links("/live"),
            "again_url": links("/live", **_of(asked)),
            "stream_url": links("/live/stream", **_of(asked)),
            "trail_url": links("/", **_of(asked)),
        },
    )


@get("/live.json", dependencies=_DEPENDENCIES, opt={SCOPE_KEY: Scope.READ}, include_in_schema=False)
async def live_twin(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Asked],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The newest events as JSON."""
    events, say = await _newest(asked, caller, service), tools_of(request)["t"]
    return json_of(
        LiveTwin(
            q=asked.q,
            tenant_id=caller.tenant(asked.tenant_id or None),
            events=[
                ListedEvent(
                    event=msgspec.Raw(body_of(event)),
                    sentence=plain(sentence_of(event, service.log.catalogue, say)),
                )
                for event in events
            ],
            stream_url=linker(request)("/live/stream", **_of(asked)),
        )
    )


@get(
    "/live/stream", dependencies=_DEPENDENCIES, opt={SCOPE_KEY: Scope.READ}, include_in_schema=False
)
async def live_stream(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Asked],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """Server-sent events as those of `/v1/tail`; their data is `{"row": …}`, a row of the page."""
    shown, render = _shower(request, caller, service), piece(request, "live_row.html")

    def data_of(event: Event) -> bytes:
        return msgspec.json.encode({"row": render({"each": shown(event)})})

    return await open_tail(request, asked.tail(), caller, service, data_of)


ROUTES: tuple[ControllerRouterHandler, ...] = (live_page, live_twin, live_stream)


async def _newest(asked: Asked, caller: Caller, service: Service) -> list[Event]:
    filters = leaving_readings_out(filter_language.parse(asked.q))
    given = filters.get("tenant_id") or asked.tenant_id or None
    filters["tenant_id"] = tenant_id = caller.tenant(given)
    shown = {name: value for name, value in filters.items() if value is not None}
    await service.readings.view(caller, tenant_id, {"what": "tail", "filters": shown})
    return (await service.log.search(**filters, limit=_AT_FIRST, budget=_BUDGET)).events


def _shower(
    request: Request[Any, Any, Any], caller: Caller, service: Service
) -> Callable[[Event], LiveEvent]:
    """Makes an event what the template of a row takes."""
    tools = tools_of(request)
    links, say = tools["url"], tools["t"]

    def shown(event: Event) -> LiveEvent:
        of_tenant = None if caller.tenant_id else event.tenant_id
        return LiveEvent(
            event=event,
            sentence=sentence_of(event, service.log.catalogue, say),
            url=links(f"/events/{event.event_id}", tenant_id=of_tenant),
            tenant_id=of_tenant,
        )

    return shown


def _with_readings(asked: Asked, links: Callable[..., str]) -> str | None:
    """The link to the same with the readings of the trail, which are left out; None if not."""
    if not asked.leaves_readings_out():
        return None
    conditions = {**filter_language.parse(asked.q), "activity": get_args(Activity)}
    return links("/live", **{**_of(asked), "q": filter_language.text_of(conditions)})


def _of(asked: Asked) -> dict[str, Any]:
    return {"q": asked.q, "tenant_id": asked.tenant_id or None}
