"""Viewer links: a host application lets a person into one tenant's pages, to read.

It asks for a link with its own token, and gives it to the person's browser; there it is good once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler

from muniment.checks import check_id, check_text
from muniment.errors import InvalidEvent
from muniment.event import Outcome, Target
from muniment.http.access import PUBLIC, SCOPE_KEY, SESSION_SCOPES, Caller, Scope
from muniment.http.api.asking import Nothing, asks, read_json
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.sent import IdSent, TextSent
from muniment.http.api.wire import JSON
from muniment.http.auth.secrets import hash_of, issue, looks_like
from muniment.http.auth.sessions import CLEAN, root_of, start_session
from muniment.http.problems import Refusal
from muniment.http.service import Service
from muniment.sealing import utc_now

LINK_ACTION: Final = "audit.viewer_link_create"
LINK_SCOPES: Final = SESSION_SCOPES
"""What a viewer link is good for: to read, and to take away what was read. It changes nothing."""
MAX_LINK_SECONDS: Final = 3_600


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On whose behalf a link is asked for, as the host application knows them."""

    id: IdSent
    name: TextSent | None = None


class LinkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a viewer link is to be. `lifetime_seconds` is how long it can be opened, up to 3,600."""

    tenant_id: IdSent
    person: Person | None = None
    lifetime_seconds: (
        Annotated[
            int, msgspec.Meta(ge=1, le=MAX_LINK_SECONDS, description="Written without a fraction.")
        ]
        | None
    ) = None


class ViewerLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link that can be opened once, until `expires_at`."""

    url: str
    expires_at: datetime


@post(
    "/v1/viewer-links",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: Scope.ADMIN,
        OPERATION_KEY: Operation(
            id="makeViewerLink",
            summary="Make a viewer link",
            description="It lets a person into the viewer of one tenant, read-only, once.",
            bodies={JSON: LinkRequest},
            answers={201: Answer(description="The link.", bodies={JSON: ViewerLink})},
            problems=(408, 413, 415, 422),
        ),
    },
)
async def make_link(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[ViewerLink]:
    """A link that lets a person into the viewer of one tenant, read-only, once."""
    del asked
    data = await read_json(request, LinkRequest)
    tenant_id = caller.tenant(data.tenant_id)
    person = data.person
    _check(data)
    now = utc_now()
    lifetime = service.settings.link_lifetime
    if data.lifetime_seconds is not None:
        lifetime = timedelta(seconds=data.lifetime_seconds)
    issued = issue(
        "link",
        name=caller.actor.name or caller.actor.id,
        scopes=LINK_SCOPES,
        tenant_id=tenant_id,
        created_at=now,
        expires_at=now + lifetime,
        parent_id=caller.id if caller.kind == "token" else None,
        person_id=person and person.id,
        person_name=person and person.name,
    )
    await service.log.store.credentials.add(issued.credential)
    await service.log.record(
        LINK_ACTION,
        on_error="raise",
        tenant_id=tenant_id,
        actor=caller.actor,
        outcome=Outcome.SUCCESS,
        targets=[Target("user", person.id, person.name)] if person else [],
        context=caller.context,
        details={
            "link": issued.credential.id,
            "scopes": list(issued.credential.scopes),
            "expires_at": (now + lifetime).isoformat(),
            "credential": {"kind": caller.kind, "id": caller.id},
        },
    )
    link = ViewerLink(
        url=f"{_base(service, request)}/enter?code={issued.secret}", expires_at=now + lifetime
    )
    return Response(link, status_code=201, headers=CLEAN)


@get("/enter", opt={SCOPE_KEY: PUBLIC}, include_in_schema=False)
async def enter(
    request: Request[Any, Any, Any],
    service: NamedDependency[Service],
    code: Annotated[str, QueryParameter(max_length=200)] = "",
) -> Response[None]:
    """Open a viewer link: it is used up, and a session starts."""
    credentials = service.log.store.credentials
    found = await credentials.find(hash_of(code)) if looks_like("link", code) else None
    now = utc_now()
    if (
        found is None
        or found.kind != "link"
        or not found.is_valid(now)
        or not await credentials.use(found.id, now)
    ):
        raise Refusal(
            403,
            "link-spent",
            "This link can't be opened: each is good once, for a short time. Go back to where you "
            "got it, and open it anew.",
            headers=CLEAN,
        )
    headers = await start_session(
        service,
        request,
        name=found.name,
        scopes=frozenset(map(Scope, found.scopes)),
        tenant_id=found.tenant_id,
        shown={"kind": "link", "id": found.id},
        parent_id=found.parent_id,
        person_id=found.person_id,
        person_name=found.person_name,
    )
    return Response(None, status_code=303, headers={"Location": f"{root_of(request)}/", **headers})


def _check(data: LinkRequest) -> None:
    """Raise `InvalidEvent` for what an event could not hold."""
    if not data.tenant_id:
        raise InvalidEvent("tenant_id", "is empty; name the tenant whose pages are to be seen")
    check_id("tenant_id", data.tenant_id)
    if data.person is not None:
        check_id("person.id", data.person.id)
        if data.person.name is not None:
            check_text("person.name", data.person.name)


def _base(service: Service, request: Request[Any, Any, Any]) -> str:
    """Where people reach the viewer: as it is set, else as it was reached now."""
    if service.settings.public_url:
        return service.settings.public_url.rstrip("/")
    scheme = "https" if service.identifier.is_secure(request) else "http"
    return f"{scheme}://{request.headers.get('host', '')}{root_of(request)}"


ROUTES: tuple[ControllerRouterHandler, ...] = (make_link, enter)
