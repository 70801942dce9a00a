"""The one shape of every error: problem details (RFC 9457)."""

from __future__ import annotations

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
_AGAIN: Final = {"Retry-After": "1"}


def refusal_of(error: Exception) -> Refusal:
    """The refusal that tells the caller about an error."""
    if isinstance(error, Refusal):
        return error
    for kind, status, name in _STATUS_OF:
        if isinstance(error, kind):
            return Refusal(
                status,
                name,
                str(error),
                field=getattr(error, "field", None),
                headers=_AGAIN if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
            )
    if isinstance(error, HTTPException):
        return Refusal(
            error.status_code,
            HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"),
            error.detail or HTTPStatus(error.status_code).phrase,
            headers=dict(error.headers or {}),
        )
    return Refusal(500, "internal", "Something failed here; the service's own log says what.")


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response for an error, whatever it is."""
    refusal = refusal_of(error)
    if refusal.problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        request.logger.exception("%s %s", request.method, request.url.path, exc_info=error)
    return Response(
        msgspec.json.encode(refusal.problem),
        status_code=refusal.problem.status,
        media_type=MEDIA_TYPE,
        headers=refusal.headers,
    )
