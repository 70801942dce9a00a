"""The one shape of every error: problem details (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from muniment.errors import (
    Conflict,
    EventNotFound,
    EventRefused,
    InvalidConfig,
    InvalidEvent,
    InvalidQuery,
    LogClosed,
    MunimentError,
    NotDurable,
    NotPublished,
    StoreUnavailable,
)

MEDIA_TYPE: Final = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457, section 3.1).

    `type` is `urn:muniment:problem:` and a name that stays; `field` names the member of the input
    at fault, `index` the place of the event in a batch, from 0.
    """

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    index: int | None = None


class Refusal(Exception):
    """Ends a request with a problem. `name` is the last part of its type."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        field: str | None = None,
        index: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=f"urn:muniment:problem:{name}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            field=field,
            index=index,
        )
        self.headers = headers or {}


_STATUS_OF: Final[tuple[tuple[type[MunimentError], int, str], ...]] = (
    (InvalidEvent, 422, "invalid-event"),
    (InvalidQuery, 400, "invalid-query"),
    (Conflict, 409, "conflict"),
    (EventRefused, 422, "event-refused"),
    (EventNotFound, 404, "not-found"),
    (NotPublished, 404, "not-published"),
    (NotDurable, 503, "not-durable"),
    (StoreUnavailable, 503, "store-unavailable"),
    (LogClosed, 503, "closing"),
    (InvalidConfig, 400, "invalid-query"),
)
AGAIN: Final = {"Retry-After": "1"}
_TOLD: Final[dict[type[MunimentError], str]] = {
    NotDurable: "It could be made durable nowhere, and is not recorded. Send it again.",
    StoreUnavailable: "The store can't be reached. Try again.",
    EventRefused: "The store refuses this event for its own sake; it is in quarantine.",
    LogClosed: "The service is about to end. Try again.",
}
"""What is said instead of a message that tells of paths and hosts."""
_NO_PAGES: Final = frozenset({"v1", "schema", "metrics", "healthz", "readyz"})
_logger: Final = logging.getLogger("muniment.http")


def refusal_of(error: Exception) -> Refusal:
    """The refusal that tells the caller about an error, and nothing of what is inside."""
    if isinstance(error, Refusal):
        return error
    for kind, status, name in _STATUS_OF:
        if isinstance(error, kind):
            return Refusal(
                status,
                name,
                _TOLD.get(kind) or str(error),
                field=getattr(error, "field", None),
                headers=AGAIN if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
            )
    if isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _of_framework(error)
    return Refusal(500, "internal", "Something failed here; the service's own log says what.")


def _of_framework(error: HTTPException) -> Refusal:
    status = HTTPStatus(error.status_code)
    detail, field = error.detail or status.description or status.phrase, None
    extra = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict):
        field = extra[0].get("key")
        detail = f"{field}: {extra[0].get('message', detail)}" if field else detail
    name = status.phrase.lower().replace(" ", "-")
    return Refusal(status, name, detail, field=field, headers=dict(error.headers or {}))


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response for an error, whatever it is."""
    refusal = refusal_of(error)
    service = request.app.state.get("service")
    if refusal.problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _logger.error("%s %s", request.method, request.url.path, exc_info=error)
    elif type(error) in _TOLD and service is not None:  # anybody can ask, and often
        kind = type(error).__name__
        service.diagnostics.report(logging.ERROR, kind, "%s: %s", kind, error)
    render = getattr(service, "render_problem", None)
    if render is not None and _is_page(request):
        page: Response[bytes] = render(request, refusal.problem)
        page.headers.update(refusal.headers)
        return page
    return Response(
        msgspec.json.encode(refusal.problem),
        status_code=refusal.problem.status,
        media_type=MEDIA_TYPE,
        headers=refusal.headers,
    )


def _is_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a person looks at the answer."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    first = path.removeprefix("/").partition("/")[0]
    return first not in _NO_PAGES and "text/html" in request.headers.get("accept", "")
