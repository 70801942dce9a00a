"""How the service does: liveness, readiness, metrics; and what its API is."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from muniment.http.access import PUBLIC, SCOPE_KEY, Scope
from muniment.http.api.asking import Nothing, asks, json_of
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation, described
from muniment.http.api.wire import JSON, TEXT, Alive, Readiness
from muniment.http.auth.identifying import caller_of
from muniment.http.service import Service
from muniment.integrations.prometheus import EXPOSITION
from muniment.watching import Snapshot

_LOST_LATELY: Final = 10.0
"""Seconds after a loss, in which others should get what comes; then it is tried again."""


@get(
    "/healthz",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: PUBLIC,
        OPERATION_KEY: Operation(
            id="isAlive",
            summary="Whether the service runs",
            answers={200: Answer(description="It does.", bodies={JSON: Alive})},
        ),
    },
)
async def tell_liveness(asked: NamedDependency[Nothing]) -> Response[bytes]:
    """That the service runs, whatever its store does."""
    del asked
    return json_of(Alive())


@get(
    "/readyz",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: PUBLIC,
        OPERATION_KEY: Operation(
            id="isReady",
            summary="Whether the service should get requests",
            description="503 while it shuts down, and for ten seconds after an event was lost: "
            "neither store nor spool took it. In an outage of the store it should get requests, "
            "for they are durable in the spool; `state` is the log's health all the same.",
            answers={
                200: Answer(description="It should.", bodies={JSON: Readiness}),
                503: Answer(description="It should not.", bodies={JSON: Readiness}),
            },
        ),
    },
)
async def tell_readiness(
    asked: NamedDependency[Nothing], service: NamedDependency[Service]
) -> Response[bytes]:
    """How the log does. It says no more to everybody: problems name paths and hosts."""
    del asked
    is_closing = service.closing.is_set()
    readiness = Readiness(state="closing" if is_closing else service.log.health().state)
    is_ready = not is_closing and _takes_events(service.log.snapshot())
    return json_of(readiness, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)


def _takes_events(now: Snapshot | None) -> bool:
    """Whether an event that comes would be durable, as far as it shows.

    Not whether all is well: an outage is no reason to send events away from the spool.
    """
    return now is not None and (now.drop_seconds is None or now.drop_seconds >= _LOST_LATELY)


@get(
    "/metrics",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: PUBLIC,
        OPERATION_KEY: Operation(
            id="getMetrics",
            summary="Metrics for Prometheus, of this worker",
            needs=Scope.ADMIN,
            answers={200: Answer(description="The metrics.", bodies={TEXT: str})},
        ),
    },
)
async def get_metrics(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Nothing],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The metrics, for the scope `admin`; for everybody if `public_metrics` is set."""
    del asked
    if not service.settings.public_metrics:
        (await caller_of(request)).require(Scope.ADMIN)
    return Response(service.requests.exposition(service.log), media_type=EXPOSITION)


@get(
    ["/schema", "/schema/openapi.json"],
    opt={SCOPE_KEY: PUBLIC},
    dependencies={"asked": asks(Nothing)},
)
async def get_schema(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Nothing],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The OpenAPI document of what this service does."""
    del asked
    return Response(_document(request.app, service.settings.max_page), media_type=JSON)


@lru_cache(maxsize=4)
def _document(app: Litestar, max_page: int) -> bytes:
    """It takes 40 ms to make, and anybody may ask for it."""
    return msgspec.json.encode(described(app, max_page=max_page))


ROUTES: tuple[ControllerRouterHandler, ...] = (
    tell_liveness,
    tell_readiness,
    get_metrics,
    get_schema,
)
