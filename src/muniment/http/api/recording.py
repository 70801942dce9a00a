"""Recording events: one, and many."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from muniment.http.access import SCOPE_KEY, Scope
from muniment.http.api.asking import Nothing, json_of, read_query
from muniment.http.api.batches import Batch, Recorded
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.framing import Elements, Lines
from muniment.http.api.given import event_of
from muniment.http.api.sent import EventSent
from muniment.http.api.wire import JSON, NDJSON
from muniment.http.auth.identifying import caller_of
from muniment.http.bodies import body_of, chunks_of, media_type_of
from muniment.http.problems import Refusal
from muniment.http.service import Service
from muniment.receipts import Receipt, receipt_for

_KEY: Final = "Idempotency-Key"


class WithReceipts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a batch: whether the answer holds a receipt for each event."""

    receipts: bool = False


@post(
    "/v1/events",
    opt={
        SCOPE_KEY: Scope.WRITE,
        OPERATION_KEY: Operation(
            id="recordEvent",
            summary="Record an event",
            description="The event is durable once this answers. The same event again, by its "
            "`event_id` or its key, is stored once.",
            query=Nothing,
            headers={_KEY: "What the event's `idempotency_key` is, unless the event says so."},
            bodies={JSON: EventSent},
            answers={
                201: Answer(description="It is in the store.", bodies={JSON: Receipt}),
                200: Answer(description="It was in the store before.", bodies={JSON: Receipt}),
                202: Answer(
                    description="The store can't be reached: the event is durable beside it, and "
                    "follows.",
                    bodies={JSON: Receipt},
                ),
            },
            problems=(408, 409, 413, 415, 422, 431),
        ),
    },
)
async def record_event(request: Request[Any, Any, Any]) -> Response[bytes]:
    """One event, durable before the answer."""
    # Dependencies would be resolved in tasks of their own, which takes a sixth of a request.
    service: Service = request.app.state.service
    caller = await caller_of(request)
    read_query(request.scope["query_string"], Nothing)
    media_type_of(request, (JSON,))
    raw = await body_of(request, service.settings.max_event_bytes)
    event = event_of(raw, caller.tenant_id, _key_of(request))
    sealed = service.log.sealer.seal_decoded(event)
    (placed,) = await service.log.record_sealed((sealed,))
    receipt = receipt_for(sealed, placed)
    status = HTTPStatus.CREATED
    if receipt.already:
        status = HTTPStatus.OK
    elif receipt.durable_in == "spool":
        status = HTTPStatus.ACCEPTED
    return json_of(receipt, status)


@post(
    "/v1/events/batch",
    opt={
        SCOPE_KEY: Scope.WRITE,
        OPERATION_KEY: Operation(
            id="recordEvents",
            summary="Record many events",
            description="A JSON array, or an event a line. They are recorded while they arrive, in "
            "their order; one that is refused keeps none of the others from being recorded.",
            query=WithReceipts,
            bodies={JSON: list[EventSent], NDJSON: str},
            answers={
                200: Answer(description="All are in the store.", bodies={JSON: Recorded}),
                202: Answer(
                    description="All are durable, some beside the store, which they follow into.",
                    bodies={JSON: Recorded},
                ),
            },
            problems=(408, 409, 413, 415, 422, 431),
        ),
    },
)
async def record_batch(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Many events, durable before the answer, which says which ones were refused."""
    service: Service = request.app.state.service
    caller = await caller_of(request)
    asked = read_query(request.scope["query_string"], WithReceipts)
    if _KEY in request.headers:
        raise Refusal(
            400,
            "misplaced-key",
            f"{_KEY}: is for a single event; give each event of a batch an idempotency_key.",
            field=_KEY,
        )
    media_type = media_type_of(request, (JSON, NDJSON))
    settings = service.settings
    framing = (Lines if media_type == NDJSON else Elements)(settings.max_event_bytes)
    batch = Batch(
        service.log,
        caller.tenant_id,
        most=settings.max_batch_events,
        with_receipts=asked.receipts,
    )
    broken_off: Refusal | None = None
    try:
        async for chunk in chunks_of(request, settings.max_batch_bytes):
            await batch.take(framing.feed(chunk))
        await batch.take(framing.finish())
    except Refusal as refusal:
        broken_off = refusal
    await batch.finish()
    refused = batch.refusal(broken_off)
    if refused is not None:
        raise refused
    recorded = batch.recorded()
    return json_of(recorded, HTTPStatus.ACCEPTED if recorded.spooled else HTTPStatus.OK)


def _key_of(request: Request[Any, Any, Any]) -> str | None:
    """The key in the header. Raises a 400 for two that differ."""
    keys = set(request.headers.getall(_KEY, []))
    if len(keys) > 1:
        raise Refusal(400, "two-keys", f"{_KEY}: is there twice, and differs.", field=_KEY)
    return keys.pop() if keys else None


ROUTES: tuple[ControllerRouterHandler, ...] = (record_event, record_batch)
