"""The page of the trail, its JSON twin, and what completes a query."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from muniment import filter_language
from muniment.actions import Activity, Category
from muniment.counting import Counted
from muniment.errors import InvalidQuery
from muniment.event import ActorType, Event, Outcome
from muniment.event_id import EPOCH
from muniment.formats import body_of
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import Nothing, asks, json_of
from muniment.http.service import Service
from muniment.http.viewer.facets import facets_of, facets_of_tenants
from muniment.http.viewer.histogram import histogram_of
from muniment.http.viewer.rendering import page, tools_of
from muniment.http.viewer.sentences import Part, plain, sentence_of
from muniment.http.viewer.trail import PRESETS, Question, Trail, look


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the list: the stored body, and its sentence."""

    event: msgspec.Raw
    sentence: str


class TrailTwin(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows, as JSON. `conditions` are what the filter language says in `q`.

    `leaves_readings_out` says that readings of the trail are not among the events: `q` doesn't ask
    for an activity, category or action.
    """

    q: str
    conditions: dict[str, Any]
    leaves_readings_out: bool
    tenant_id: str | None
    since: datetime
    until: datetime
    order: str
    counts: Counted
    events: list[Row]
    next_cursor: str | None
    searched_to: datetime | None


class Completions(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the filter language, and the values that are known for some of them."""

    keys: list[str]
    values: dict[str, list[str]]


_DEPENDENCIES = {"question": asks(Question)}
_MOST_TENANTS: Final = 200
_LATEST: Final = datetime.max.replace(microsecond=0, tzinfo=UTC)


@get("/", dependencies=_DEPENDENCIES, opt={SCOPE_KEY: Scope.READ}, include_in_schema=False)
async def trail_page(
    request: Request[Any, Any, Any],
    question: NamedDependency[Question],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[str]:
    """The trail: a histogram, facets, and the events."""
    try:
        found = await look(service, caller, question)
    except InvalidQuery as error:
        return _refused(request, caller, question, error)
    return page(request, "trail.html", _context(request, service, caller, found))


@get(
    "/trail.json", dependencies=_DEPENDENCIES, opt={SCOPE_KEY: Scope.READ}, include_in_schema=False
)
async def trail_twin(
    request: Request[Any, Any, Any],
    question: NamedDependency[Question],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """What the page of the trail shows, as JSON."""
    found = await look(service, caller, question)
    say = tools_of(request)["t"]
    return json_of(
        TrailTwin(
            q=question.q,
            conditions=found.conditions,
            leaves_readings_out=found.leaves_readings_out,
            tenant_id=found.tenant_id,
            since=found.since,
            until=found.until,
            order=question.order,
            counts=found.counted,
            events=[
                Row(
                    event=msgspec.Raw(body_of(event)),
                    sentence=plain(sentence_of(event, service.log.catalogue, say)),
                )
                for event in found.page.events
            ],
            next_cursor=found.page.next_cursor,
            searched_to=found.page.searched_to,
        )
    )


@get(
    "/complete.json",
    dependencies={"nothing": asks(Nothing)},
    opt={SCOPE_KEY: Scope.READ},
    include_in_schema=False,
)
async def completions(
    nothing: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """What the search box offers: keys, and the actions that the caller's tenant has events of.

    Tenants too, but to a caller of all of them alone.
    """
    del nothing
    log = service.log
    seen = await log.store.actions(caller.tenant(None))
    tenants = [] if caller.tenant_id else await log.store.counts.tenants(_MOST_TENANTS)
    return json_of(
        Completions(
            keys=list(filter_language.KEYS),
            values={
                "tenant": tenants,
                "action": sorted({*seen, *(info.action for info in log.catalogue)}),
                "category": [category.value for category in Category],
                "activity": list(get_args(Activity)),
                "outcome": [outcome.value for outcome in Outcome],
                "actor-type": list(get_args(ActorType)),
                "since": ["1h", "24h", "7d", "30d"],
            },
        )
    )


ROUTES: tuple[ControllerRouterHandler, ...] = (trail_page, trail_twin, completions)


class ListedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the list, as the template takes it."""

    event: Event
    sentence: list[Part]
    url: str


def _context(
    request: Request[Any, Any, Any], service: Service, caller: Caller, found: Trail
) -> dict[str, Any]:
    tools = tools_of(request)
    here, url, say = tools["here"], tools["url"], tools["t"]
    catalogue = service.log.catalogue
    bare = {k: v for k, v in found.conditions.items() if k not in {"since", "until"}}

    def zoomed(start: datetime, end: datetime) -> str:
        q = filter_language.text_of(bare)
        return str(here(q=q, since=_stamp(start), until=_stamp(end), cursor=None))

    def into_bar(start: datetime, end: datetime) -> str:
        # The first and the last bar stand for what is in the range.
        is_open = found.preset is not None
        return zoomed(max(start, found.since), end if is_open else min(end, found.until))

    def asked(q: str) -> str:
        return str(here(q=q, cursor=None))

    def of_tenant(tenant_id: str | None) -> str:
        conditions = {k: v for k, v in found.conditions.items() if k != "tenant_id"}
        q = filter_language.text_of(conditions)
        return str(here(q=q, tenant_id=tenant_id, cursor=None))

    tenants = []
    if not caller.tenant_id:
        tenants = facets_of_tenants(found.counted, found.tenant_id, link=of_tenant)
    kept = {k: v for k, v in request.query_params.items() if k not in {"cursor", "lang"}}
    return {
        "found": found,
        "histogram": histogram_of(found.counted, into_bar),
        "zoomed_out": _zoomed_out(found.counted, zoomed),
        "facets": [
            *tenants,
            *facets_of(found.counted, found.conditions, catalogue=catalogue, say=say, link=asked),
        ],
        "activities": _activities(found, asked),
        "readings": _readings(found, asked),
        "presets": [
            (name, here(q=filter_language.text_of(bare), since=name, until=None, cursor=None))
            for name in PRESETS
        ],
        "events": [
            ListedEvent(
                event=event,
                sentence=sentence_of(event, catalogue, say),
                url=url(f"/events/{event.event_id}", **kept),
            )
            for event in found.page.events
        ],
        "next_url": here(cursor=found.page.next_cursor) if found.page.next_cursor else None,
        "is_first": "cursor" not in request.query_params,
        "may_export": Scope.EXPORT in caller.scopes,
        "filters": _filters(found),
        "bare_q": filter_language.text_of(bare),
        "around_newest": _around(found, zoomed),
        "live_url": url(
            "/live", q=filter_language.text_of(bare), tenant_id=found.question.tenant_id or None
        ),
        "here_as_json": url("/trail.json", **kept),
    }


def _refused(
    request: Request[Any, Any, Any], caller: Caller, question: Question, error: InvalidQuery
) -> Response[str]:
    """The page with the query as it was typed, and what is wrong with it."""
    del caller
    context = {"question": question, "problem": error}
    return page(request, "trail_refused.html", context, status=400)


class Tab(msgspec.Struct, frozen=True, kw_only=True):
    """An activity that can be chosen, or all: how many events it has ("≥" if there may be more)."""

    name: str
    events: int | None
    is_exact: bool
    is_chosen: bool
    url: str


def _activities(found: Trail, asked: Any) -> list[Tab]:
    """What is going on without saying, and each activity by itself."""
    now = found.conditions.get("activity")
    facet = found.counted.facets["activity"]
    counts = {value.value: value.events for value in facet.values}
    several = "but" if found.leaves_readings_out else "all"
    chosen = now[0] if now and len(now) == 1 else several
    return [
        Tab(
            name=name,
            events=None if name == several else counts.get(name, 0),
            is_exact=facet.exact,
            is_chosen=name == chosen,
            url=asked(_text_of(found, [] if name == several else [name])),
        )
        for name in (several, *get_args(Activity))
    ]


def _readings(found: Trail, asked: Any) -> Tab | None:
    """The readings of the trail that are left out, or shown beside all else; None if neither."""
    facet = found.counted.facets["activity"]
    events = sum(value.events for value in facet.values if value.value == "reading")
    everything = list(get_args(Activity))
    is_shown = set(found.conditions.get("activity", ())) == set(everything)
    if not is_shown and not (found.leaves_readings_out and (events or not facet.exact)):
        return None
    return Tab(
        name="shown" if is_shown else "left_out",
        events=events,
        is_exact=facet.exact,
        is_chosen=is_shown,
        url=asked(_text_of(found, [] if is_shown else everything)),
    )


def _text_of(found: Trail, activity: list[str]) -> str:
    """The query of the page, asking for these activities instead."""
    conditions = {k: v for k, v in found.conditions.items() if k != "activity"}
    return filter_language.text_of({**conditions, "activity": tuple(activity)})


def _filters(found: Trail) -> dict[str, Any]:
    """The filters of what is shown, as an export takes them."""
    filters = {**found.asked, "tenant_id": found.tenant_id}
    filters["since"] = found.since.isoformat()
    filters["until"] = found.until.isoformat()
    return {name: value for name, value in filters.items() if value is not None}


def _around(found: Trail, zoomed: Any) -> str | None:
    """The link to the time around the newest event, where the range holds none."""
    if found.newest is None:
        return None
    day = timedelta(days=1)
    return str(zoomed(found.newest.occurred_at - 6 * day, found.newest.occurred_at + day))


def _zoomed_out(counted: Counted, zoomed: Any) -> str:
    """The link to twice the range."""
    half = max((counted.until - counted.since) / 2, timedelta(seconds=1))
    before, after = min(half, counted.since - EPOCH), min(half, _LATEST - counted.until)
    return str(zoomed(counted.since - before, counted.until + after))


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
