"""The page of one event, and its JSON twin."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, UnsetType

from muniment import filter_language
from muniment.actions import ActionInfo
from muniment.canonical import decode
from muniment.event import Event
from muniment.event_id import time_of
from muniment.formats import body_of
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import asks, json_of
from muniment.http.service import Service
from muniment.http.viewer.event_view import view_of
from muniment.http.viewer.neighbours import Neighbours, beside, neighbours_of
from muniment.http.viewer.rendering import linker, page, root_of, tools_of
from muniment.http.viewer.sentences import Part, plain, sentence_of
from muniment.http.viewer.trail import Question, leaving_readings_out
from muniment.log import AuditLog
from muniment.query import Order
from muniment.stores.base import StoredEvent
from muniment.visible import visible

_Way = Literal["newer", "older"]
_OWN: Final = ("whole", "end", "lang")


class Asked(Question, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The query of the page: the search that led to it, and how it is to be shown.

    `whole` leaves nothing out; `end` says that there is no event further that way.
    """

    whole: bool = False
    end: _Way | UnsetType = UNSET

    def filters(self, caller: Caller) -> dict[str, Any]:
        """The arguments of the search; without a time, of all times."""
        filters = leaving_readings_out(filter_language.parse(self.q))
        for name in ("tenant_id", "since", "until"):
            if getattr(self, name):
                filters.setdefault(name, getattr(self, name))
        if filters.get("since") == "all":
            del filters["since"]
        filters["tenant_id"] = caller.tenant(filters.get("tenant_id"))
        return filters


class ProofState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the event is on its way to being proved.

    "pending": it has no leaf yet. "unsigned": nothing of this trail was ever signed. "behind": the
    next checkpoint will cover it. "published": one does.
    """

    state: Literal["pending", "unsigned", "behind", "published"]
    leaf_index: int | None = None
    tree_size: int | None = None


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbours, as the twin has them: the events are their stored bodies."""

    relation: str
    value: str
    has_earlier: bool
    has_later: bool
    events: list[msgspec.Raw]


class EventTwin(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows, as JSON. `event` is the stored body, null if it was erased."""

    event_id: str
    tenant_id: str
    leaf_hash: bytes
    event: msgspec.Raw | None
    sentence: str | None
    action: ActionInfo | None
    proof: ProofState
    verifying_keys: list[str]
    neighbours: list[Around]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """All that page and twin show of an event."""

    stored: StoredEvent
    event: Event | None
    proof: ProofState
    around: list[Neighbours]


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbour, as the template takes it."""

    event: Event
    sentence: list[Part]
    url: str
    is_this: bool


class ShownNeighbours(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbours, as the template takes them: `query` finds all of them."""

    relation: str
    value: str
    query: str
    has_earlier: bool
    has_later: bool
    rows: list[ShownEvent]


_DEPENDENCIES = {"asked": asks(Asked)}


@get(
    "/events/{name:str}",
    dependencies=_DEPENDENCIES,
    opt={SCOPE_KEY: Scope.READ},
    include_in_schema=False,
)
async def event_page(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    asked: NamedDependency[Asked],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[Any]:
    """The page of an event; its twin, if the name ends in `.json`."""
    event_id, log = name.removesuffix(".json"), service.log
    stored = await log.stored(event_id, tenant_id=asked.filters(caller)["tenant_id"])
    await service.readings.view(caller, stored.tenant_id, {"what": "event", "event": event_id})
    event = None if stored.body is None else decode(stored.body)
    proof, around = await asyncio.gather(
        proof_state(log, stored), _none() if event is None else neighbours_of(log, event)
    )
    known = Known(stored=stored, event=event, proof=proof, around=around)
    if event_id != name:
        return _twin(request, log, known)
    return page(request, "event.html", _context(request, asked, caller, log, known))


@get(
    ["/events/{event_id:str}/newer", "/events/{event_id:str}/older"],
    dependencies=_DEPENDENCIES,
    opt={SCOPE_KEY: Scope.READ},
    include_in_schema=False,
)
async def event_beside(
    request: Request[Any, Any, Any],
    event_id: FromPath[str],
    asked: NamedDependency[Asked],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[None]:
    """Leads to the event beside this one in its search; at the end, back to this one."""
    way: _Way = "newer" if request.scope["path"].endswith("/newer") else "older"
    filters = asked.filters(caller)
    stored = await service.log.stored(event_id, tenant_id=filters["tenant_id"])
    place = Event(action="-", event_id=stored.event_id, tenant_id=stored.tenant_id)
    order: Order = "oldest" if way == "newer" else "newest"
    found = await beside(service.log, place, filters, order, 0)
    links, kept = linker(request), _kept(request)
    to = links(f"/events/{found[0].event_id}", **kept) if found else None
    return Response(
        None,
        status_code=303,
        headers={"Location": to or links(f"/events/{event_id}", **kept, end=way)},
    )


@get(
    "/events/{event_id:str}/proof.txt",
    dependencies=_DEPENDENCIES,
    opt={SCOPE_KEY: Scope.READ},
    include_in_schema=False,
)
async def proof_file(
    event_id: FromPath[str],
    asked: NamedDependency[Asked],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The proof as a file to be kept (C2SP tlog-proof)."""
    stored = await service.log.stored(event_id, tenant_id=asked.filters(caller)["tenant_id"])
    proof = await service.log.prove(stored.event_id, tenant_id=stored.tenant_id)
    await service.readings.view(caller, stored.tenant_id, {"what": "proof", "event": event_id})
    return Response(
        proof.text().encode(),
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{event_id}.tlog-proof"'},
    )


ROUTES: tuple[ControllerRouterHandler, ...] = (event_page, event_beside, proof_file)


def _context(
    request: Request[Any, Any, Any], asked: Asked, caller: Caller, log: AuditLog, known: Known
) -> dict[str, Any]:
    """What the template works with."""
    stored, event, event_id = known.stored, known.event, known.stored.event_id
    tools = tools_of(request)
    links, say = tools["url"], tools["t"]
    kept = _kept(request)
    of_tenant = None if caller.tenant_id else stored.tenant_id

    def find(query: str) -> str:
        return str(links("/", q=query, tenant_id=of_tenant, since="all"))

    def shown(each: Event) -> ShownEvent:
        return ShownEvent(
            event=each,
            sentence=sentence_of(each, log.catalogue, say),
            url=links(f"/events/{each.event_id}", tenant_id=of_tenant),
            is_this=each.event_id == event_id,
        )

    groups = [
        ShownNeighbours(
            relation=each.relation,
            value=each.value,
            query=filter_language.text_of({each.relation: each.value}),
            has_earlier=each.has_earlier,
            has_later=each.has_later,
            rows=[shown(one) for one in each.events],
        )
        for each in known.around
    ]
    here = f"/events/{event_id}"
    steps: list[tuple[str, str, _Way]] = [("k", "↑", "newer"), ("j", "↓", "older")]
    if asked.order == "oldest":
        steps = [("k", "↑", "older"), ("j", "↓", "newer")]
    return {
        "event_id": event_id,
        "tenant_id": stored.tenant_id,
        "leaf_hash": stored.leaf_hash.hex(),
        "occurred_at": time_of(event_id),
        "view": None if event is None else view_of(event, log.catalogue, whole=asked.whole),
        "sentence": None if event is None else sentence_of(event, log.catalogue, say),
        "proof": known.proof,
        "neighbours": groups,
        "keys": _keys(log),
        "messages": say.section("verify"),
        "find": find,
        "lines": _lines,
        "plain": plain,
        "end": asked.end or None,
        "may_export": Scope.EXPORT in caller.scopes,
        "wanted": _evidence_of(stored),
        "own_url": links(here, tenant_id=of_tenant),
        "whole_url": links(here, **kept, whole="true"),
        "back_url": links("/", **kept),
        "steps": [(key, arrow, way, links(f"{here}/{way}", **kept)) for key, arrow, way in steps],
        "body_url": links(f"/v1{here}", tenant_id=stored.tenant_id, lang=None),
        "proof_url": links(f"/v1{here}/proof", tenant_id=stored.tenant_id, lang=None),
        "proof_text_url": links(f"{here}/proof.txt", tenant_id=of_tenant),
        "exports_url": f"{root_of(request)}/v1/exports",
    }


async def proof_state(log: AuditLog, stored: StoredEvent) -> ProofState:
    """How far an event that is stored is on its way to being proved."""
    trees = log.store.trees
    # In this order, a checkpoint that is published in between covers the leaf that was found.
    index = await trees.leaf_index(stored.tenant_id, stored.event_id)
    newest = await trees.checkpoint(stored.tenant_id)
    if index is None:
        return ProofState(state="pending")
    if newest is None:
        return ProofState(state="unsigned", leaf_index=index)
    covered = index < newest.tree_size
    return ProofState(
        state="published" if covered else "behind", leaf_index=index, tree_size=newest.tree_size
    )


async def _none() -> list[Neighbours]:
    return []


def _kept(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The query of the search, as it came."""
    return {name: value for name, value in request.query_params.items() if name not in _OWN}


def _keys(log: AuditLog) -> list[str]:
    return [key.text() for key in log.verifying_keys]


def _lines(text: str) -> str:
    """A text that is safe to show, with its own lines."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _evidence_of(stored: StoredEvent) -> dict[str, Any]:
    """The export that holds the event: those of its tenant in its millisecond."""
    moment = time_of(stored.event_id)
    since = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return {
        "format": "evidence",
        "filters": {
            "tenant_id": stored.tenant_id,
            "since": since.isoformat(),
            "until": (since + timedelta(milliseconds=1)).isoformat(),
        },
    }


def _twin(request: Request[Any, Any, Any], log: AuditLog, known: Known) -> Response[bytes]:
    stored, event = known.stored, known.event
    say = tools_of(request)["t"]
    return json_of(
        EventTwin(
            event_id=stored.event_id,
            tenant_id=stored.tenant_id,
            leaf_hash=stored.leaf_hash,
            event=None if stored.body is None else msgspec.Raw(stored.body.encode()),
            sentence=None if event is None else plain(sentence_of(event, log.catalogue, say)),
            action=None if event is None else log.catalogue.describe(event.action),
            proof=known.proof,
            verifying_keys=_keys(log),
            neighbours=[
                Around(
                    relation=each.relation,
                    value=each.value,
                    has_earlier=each.has_earlier,
                    has_later=each.has_later,
                    events=[msgspec.Raw(body_of(one)) for one in each.events],
                )
                for each in known.around
            ],
        )
    )
