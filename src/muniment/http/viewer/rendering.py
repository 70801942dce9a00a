"""Pages from templates: their language, their links, and the headers that fence them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Request, Response

from muniment.http.access import Caller
from muniment.http.problems import Problem
from muniment.http.service import Service
from muniment.http.viewer.assets import version
from muniment.http.viewer.messages import LANGUAGES, language_of, messages_in
from muniment.http.viewer.pieces import badge_of, time_of, told
from muniment.visible import visible

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "
)
_HEADERS: Final = {
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_LANGUAGE: Final = "lang"


def page(
    request: Request[Any, Any, Any],
    template: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
) -> Response[str]:
    """The page that a template makes of a context."""
    service: Service = request.app.state.service
    caller = cast("Caller | None", request.scope.get("muniment.caller"))
    tools = {**tools_of(request), "caller": caller}
    html = _environment().get_template(template).render({**tools, **context})
    return Response(
        html,
        status_code=status,
        media_type=MediaType.HTML,
        headers=_headers(service),
    )


def piece(request: Request[Any, Any, Any], template: str) -> Callable[[Mapping[str, Any]], str]:
    """Makes one piece of a page after the other from a template, for scripts to put there."""
    tools, found = tools_of(request), _environment().get_template(template)
    return lambda context: found.render({**tools, **context})


def tools_of(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """What every template works with: words, links, and the small pieces of HTML.

    `t` says a message, `url` and `here` link to a path and to this page with other parameters,
    `find` to the events that a query finds, `static` to a file.
    """
    asked = request.query_params.get(_LANGUAGE)
    lang = language_of(asked, request.headers.get("accept-language", ""))
    links = linker(request)
    path = request.scope["path"].removeprefix(root_of(request)) or "/"
    say = messages_in(lang)
    return {
        "t": say,
        "visible": visible,
        "badge": lambda outcome, **form: badge_of(outcome, say, **form),
        "time": time_of,
        "told": told,
        "find": lambda query: links("/", q=query),
        "lang": lang,
        "languages": LANGUAGES,
        "url": links,
        "static": lambda name: f"{root_of(request)}/static/{version()}/{name}",
        "path": path,
        "here": lambda **changes: links(path, **_changed(request, changes)),
    }


def linker(request: Request[Any, Any, Any]) -> Callable[..., str]:
    """Makes the links of a page: below where the service is mounted, and in the page's language."""
    root = root_of(request)
    asked = request.query_params.get(_LANGUAGE)

    def url(path: str, **query: Any) -> str:
        if asked in LANGUAGES:
            query.setdefault(_LANGUAGE, asked)
        pairs = [(name, value) for name, value in query.items() if value not in {None, ""}]
        return f"{root}{quote(path)}" + (f"?{urlencode(pairs)}" if pairs else "")

    return url


def root_of(request: Request[Any, Any, Any]) -> str:
    """The path below which the service is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def render_problem(request: Request[Any, Any, Any], problem: Problem) -> Response[Any]:
    """The page that tells a person about a problem, or leads to another page."""
    if problem.status < HTTPStatus.BAD_REQUEST:
        return Response(None, status_code=problem.status)
    return page(request, "error.html", {"problem": problem}, status=problem.status)


def _headers(service: Service) -> dict[str, str]:
    allowed = " ".join(service.settings.frame_ancestors) or "'none'"
    return {**_HEADERS, "Content-Security-Policy": f"{_POLICY}{allowed}"}


def _changed(request: Request[Any, Any, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in request.query_params.items() if name != _LANGUAGE}
    return {**kept, **changes}


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("muniment.http.viewer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
