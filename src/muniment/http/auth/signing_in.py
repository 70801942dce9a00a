"""Signing in to the viewer, and out of it. A token is never put into a cookie: a session is."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, URLEncodedBody
from litestar.types import ControllerRouterHandler

from muniment.http.access import PUBLIC, SCOPE_KEY, SESSION_SCOPES
from muniment.http.auth.sessions import CLEAN, end_session, root_of, start_session
from muniment.http.problems import Refusal
from muniment.http.service import Service
from muniment.http.viewer.rendering import page

_HOME: Final = "/"
_LONGEST_NEXT: Final = 8_192
_ODD: Final = '\\" <>'


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """The form: a token, and the path within the viewer to go on to."""

    token: str = ""
    next: str = _HOME


@get("/sign-in", opt={SCOPE_KEY: PUBLIC}, include_in_schema=False)
async def show_form(request: Request[Any, Any, Any], next: FromQuery[str] = _HOME) -> Response[str]:
    """The form in which to give a token."""
    return _form(request, next=local_path(next), error=False)


@post("/sign-in", opt={SCOPE_KEY: PUBLIC}, include_in_schema=False)
async def sign_in(
    data: URLEncodedBody[SignIn],
    request: Request[Any, Any, Any],
    service: NamedDependency[Service],
) -> Response[Any]:
    """Start a session with what the token may read; any other token gets the form again."""
    following = local_path(data.next)
    _refuse_foreign(request, service)
    caller = await service.identifier.lookup.caller("token", data.token.strip())
    scopes = SESSION_SCOPES & caller.scopes if caller else frozenset()
    if caller is None or not scopes:
        return _form(request, next=following, error=True)
    headers = await start_session(
        service,
        request,
        name=caller.actor.name or caller.actor.id,
        scopes=scopes,
        tenant_id=caller.tenant_id,
        shown={"kind": "token", "id": caller.id},
        parent_id=caller.id,
    )
    location = f"{root_of(request)}{following}"
    return Response(None, status_code=303, headers={"Location": location, **headers})


@post("/sign-out", opt={SCOPE_KEY: PUBLIC}, include_in_schema=False)
async def sign_out(
    request: Request[Any, Any, Any], service: NamedDependency[Service]
) -> Response[None]:
    """End the session, here at once and elsewhere within five seconds."""
    _refuse_foreign(request, service)
    headers = {"Location": f"{root_of(request)}/sign-in", **await end_session(service, request)}
    return Response(None, status_code=303, headers=headers)


def local_path(given: str) -> str:
    """The path within the viewer that is meant, its home if it might lead anywhere else.

    What starts with one slash is a path (WHATWG URL, "path absolute"), unless a backslash, which
    is read as a slash, or a control character, which is left out, makes two of it.
    """
    is_plain = given.isascii() and given.isprintable() and not any(c in given for c in _ODD)
    is_path = given.startswith("/") and not given.startswith("//")
    return given if is_plain and is_path and len(given) <= _LONGEST_NEXT else _HOME


def _refuse_foreign(request: Request[Any, Any, Any], service: Service) -> None:
    if not service.identifier.is_same_origin(request):
        raise Refusal(403, "forbidden", "This form can only be sent from its own page.")


def _form(request: Request[Any, Any, Any], *, next: str, error: bool) -> Response[str]:
    found = page(
        request,
        "sign_in.html",
        {"next": next, "error": error},
        status=401 if error else 200,
    )
    found.headers.update(CLEAN)
    if error:
        found.headers["WWW-Authenticate"] = 'Bearer realm="muniment"'
    return found


ROUTES: tuple[ControllerRouterHandler, ...] = (show_form, sign_in, sign_out)
