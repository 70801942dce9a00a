"""Counts over the trail, and the catalogue of actions."""

from __future__ import annotations

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from muniment.counting import Counted
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import asks, json_of
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.wire import JSON, Actions, Count, KnownAction, OfTenant
from muniment.http.service import Service


@get(
    "/v1/stats",
    dependencies={"asked": asks(Count)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="countEvents",
            summary="Counts by time, action, actor, target and outcome",
            description="What is not `exact` is at least so much: counting has its time budget.",
            query=Count,
            answers={200: Answer(description="The counts.", bodies={JSON: Counted})},
        ),
    },
)
async def count_events(
    asked: NamedDependency[Count],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """A histogram and facets."""
    filters = asked.arguments()
    tenant_id = filters["tenant_id"] = caller.tenant(filters.get("tenant_id"))
    counted = await service.log.count(**filters, bars=asked.bars)
    shown = {name: value for name, value in filters.items() if value is not None}
    await service.readings.view(caller, tenant_id, {"what": "counts", "filters": shown})
    return json_of(counted)


@get(
    "/v1/actions",
    dependencies={"asked": asks(OfTenant)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="listActions",
            summary="The actions: those of the catalogue, and those that events have",
            query=OfTenant,
            answers={200: Answer(description="The actions, by name.", bodies={JSON: Actions})},
        ),
    },
)
async def list_actions(
    asked: NamedDependency[OfTenant],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The catalogue and the actions seen."""
    catalogue = service.log.catalogue
    seen = set(await service.log.actions(tenant_id=caller.tenant(asked.given())))
    known = {info.action for info in catalogue}
    found = [catalogue.describe(action) for action in sorted(known | seen)]
    return json_of(
        Actions(
            actions=[
                KnownAction(
                    action=info.action,
                    category=info.category,
                    title=info.title,
                    severity=info.severity,
                    seen=info.action in seen,
                )
                for info in found
            ]
        )
    )


ROUTES: tuple[ControllerRouterHandler, ...] = (count_events, list_actions)
