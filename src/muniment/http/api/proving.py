"""Proofs and checkpoints."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from muniment.checkpoint import checkpoint_in
from muniment.errors import InvalidQuery
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import asks, json_of, media_type_of
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.wire import JSON, TEXT, NewestCheckpoint, OfTenant, Proof
from muniment.http.service import Service


@get(
    "/v1/events/{event_id:str}/proof",
    dependencies={"asked": asks(OfTenant)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="proveEvent",
            summary="The proof that an event is in the trail",
            description="As `text/plain` it is C2SP tlog-proof. An event that was erased has its "
            "proof still; one that no checkpoint covers yet has none (404 `not-published`).",
            query=OfTenant,
            answers={200: Answer(description="The proof.", bodies={JSON: Proof, TEXT: str})},
            problems=(404, 406),
        ),
    },
)
async def prove_event(
    request: Request[Any, Any, Any],
    event_id: FromPath[str],
    asked: NamedDependency[OfTenant],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The inclusion proof of an event."""
    media_type = media_type_of(request, (JSON, TEXT))
    stored = await service.log.stored(event_id, tenant_id=caller.tenant(asked.given()))
    proof = await service.log.prove(event_id, tenant_id=stored.tenant_id)
    await service.readings.view(caller, stored.tenant_id, {"what": "proof", "event": event_id})
    if media_type == TEXT:
        return Response(proof.text().encode(), media_type=TEXT)
    checkpoint = checkpoint_in(proof.checkpoint)
    return json_of(
        Proof(
            event_id=event_id,
            tenant_id=stored.tenant_id,
            leaf_index=proof.leaf_index,
            leaf_hash=stored.leaf_hash,
            origin=checkpoint.origin,
            tree_size=checkpoint.tree_size,
            root_hash=checkpoint.root_hash,
            hashes=proof.hashes,
            checkpoint=proof.checkpoint,
            text=proof.text(),
        )
    )


@get(
    "/v1/checkpoint",
    dependencies={"asked": asks(OfTenant)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="getCheckpoint",
            summary="A tenant's newest checkpoint",
            description="The signed note (C2SP tlog-checkpoint) to give to an auditor; as JSON, "
            "with what it says. 404 `not-published` if there is none yet.",
            query=OfTenant,
            answers={
                200: Answer(
                    description="The checkpoint.", bodies={TEXT: str, JSON: NewestCheckpoint}
                )
            },
            problems=(404, 406),
        ),
    },
)
async def get_checkpoint(
    request: Request[Any, Any, Any],
    asked: NamedDependency[OfTenant],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The newest checkpoint of a tenant."""
    media_type = media_type_of(request, (TEXT, JSON))
    published = await service.log.checkpoint(_tenant_of(caller, asked))
    if media_type == TEXT:
        return Response(published.note.encode(), media_type=TEXT)
    return json_of(
        NewestCheckpoint(
            tenant_id=published.tenant_id,
            origin=checkpoint_in(published.note).origin,
            tree_size=published.tree_size,
            root_hash=published.root_hash,
            checkpoint=published.note,
        )
    )


ROUTES: tuple[ControllerRouterHandler, ...] = (prove_event, get_checkpoint)


def _tenant_of(caller: Caller, asked: OfTenant) -> str:
    tenant_id = caller.tenant(asked.given())
    if tenant_id is None:
        raise InvalidQuery("tenant_id", "is needed: each tenant has a tree of its own")
    return tenant_id
