"""Finding events: pages, streams, and one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import UNSET

from muniment.errors import InvalidQuery
from muniment.event import Event
from muniment.formats import COLUMNS, body_of, cells_of, csv_of
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import asks, media_type_of
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.wire import CSV, JSON, NDJSON, Find, Found, OfTenant
from muniment.http.auth.identifying import is_welcome, unauthorized
from muniment.http.problems import Refusal
from muniment.http.service import Service
from muniment.http.streaming import Streamed
from muniment.query import Page
from muniment.searching import Pace

_PAGE: Final = 50
_STREAMED_AT_ONCE: Final = 200
_PIECE_BYTES: Final = 65_536
_PAGE_BYTES: Final = 8 * 2**20
_PAGE_PIECE_BYTES: Final = 2**20
_WITHOUT_AN_END: Final = ("1", "1.0")
_CSV_TYPE: Final = "text/csv; charset=utf-8; header=present"
_Pages = Callable[[str | None, int, float], Awaitable[Page]]
"""Fetches the page behind a cursor, of up to so many events, within so many seconds."""


@get(
    "/v1/events",
    dependencies={"asked": asks(Find)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="findEvents",
            summary="Find events",
            description="A page of events as JSON; as NDJSON (the stored bodies, byte for byte) or "
            "CSV a stream of all that is found, for which the scope `export` is needed too. A page "
            "may be empty and not the last: follow its cursor.",
            query=Find,
            answers={
                200: Answer(
                    description="The events.", bodies={JSON: Found, NDJSON: bytes, CSV: bytes}
                )
            },
            problems=(406, 505),
        ),
    },
)
async def find_events(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Find],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """A page of events, or a stream of them."""
    limit = None if asked.limit is UNSET else asked.limit
    if limit is not None and limit > service.settings.max_page:
        raise InvalidQuery("limit", f"is over {service.settings.max_page}; follow the next_cursor")
    media_type = media_type_of(request, (JSON, NDJSON, CSV))
    filters = asked.arguments()
    tenant_id = filters["tenant_id"] = caller.tenant(filters.get("tenant_id"))
    shown = {"filters": {name: value for name, value in filters.items() if value is not None}}

    async def page(cursor: str | None, size: int, seconds: float) -> Page:
        return await service.log.search(
            **filters, order=asked.order, limit=size, cursor=cursor, budget=seconds
        )

    cursor = None if asked.cursor is UNSET else asked.cursor
    seconds = service.settings.search_seconds
    if media_type == JSON:
        most = limit or min(_PAGE, service.settings.max_page)
        found = await _page_of(page, cursor, most, seconds)
        await service.readings.view(caller, tenant_id, {"what": "events", **shown})
        if len(found) <= _PAGE_PIECE_BYTES:
            return Response(found, media_type=JSON)
        # A whole answer would lie in the memory until its client takes it, if it ever does.
        length = {"Content-Length": str(len(found))}
        return Streamed(_cut(found), media_type=JSON, headers=length)
    caller.require(Scope.EXPORT)
    if request.scope["http_version"] in _WITHOUT_AN_END:
        raise Refusal(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
            "http-version",
            "A stream that is broken off would look whole in HTTP/1.0; ask by HTTP/1.1. In nginx: "
            "proxy_http_version 1.1.",
        )
    pace = Pace(_STREAMED_AT_ONCE)
    # Each page has a budget of its own: a stream takes its turn among the searches, not all turns.
    first = await page(cursor, min(limit or pace.size, pace.size), seconds)
    is_csv = media_type == CSV
    taken = {"what": "events", "format": "csv" if is_csv else "jsonl", **shown}
    await service.readings.export(caller, tenant_id, taken)

    async def following(cursor: str, size: int) -> Page:
        if service.closing.is_set():
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "closing", "The service shuts down.")
        if not await is_welcome(request, Scope.EXPORT):
            raise unauthorized(shown=True)
        return await page(cursor, size, seconds)

    source = _pieces(first, following, pace, limit=limit, is_csv=is_csv)
    return Streamed(source, media_type=_CSV_TYPE if is_csv else media_type)


@get(
    "/v1/events/{event_id:str}",
    dependencies={"asked": asks(OfTenant)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="getEvent",
            summary="One event",
            description="Its stored body, byte for byte: what was hashed.",
            query=OfTenant,
            answers={200: Answer(description="The event.", bodies={JSON: Event})},
            problems=(404, 410),
        ),
    },
)
async def get_event(
    event_id: FromPath[str],
    asked: NamedDependency[OfTenant],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The stored body of an event."""
    stored = await service.log.stored(event_id, tenant_id=caller.tenant(asked.given()))
    if stored.body is None:
        raise Refusal(
            HTTPStatus.GONE, "erased", f"Event {event_id} was erased; its proof is there still."
        )
    await service.readings.view(caller, stored.tenant_id, {"what": "event", "event": event_id})
    return Response(stored.body.encode(), media_type=JSON)


ROUTES: tuple[ControllerRouterHandler, ...] = (find_events, get_event)


async def _page_of(page: _Pages, cursor: str | None, most: int, seconds: float) -> bytes:
    """A `Found` of up to `most` events, of their bodies as they are stored.

    It has fewer, and a cursor, once they are so large that the memory must not hold more, or the
    time is over.
    """
    ends = monotonic() + seconds
    pace = Pace(most)
    bodies: list[bytes] = []
    size = 0
    while True:
        left = max(0.0, ends - monotonic())
        found = await page(cursor, min(pace.size, most - len(bodies)), left)
        bodies += map(body_of, found.events)
        before, size = size, sum(map(len, bodies))
        pace.came(len(found.events), size - before)
        cursor = found.next_cursor
        is_over = found.searched_to is not None
        if cursor is None or is_over or len(bodies) >= most or size >= _PAGE_BYTES:
            break
    rest = msgspec.json.encode({"next_cursor": cursor, "searched_to": found.searched_to})
    return b'{"events":[' + b",".join(bodies) + b"]," + rest[1:]


async def _cut(whole: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(whole), _PAGE_PIECE_BYTES):
        yield whole[start : start + _PAGE_PIECE_BYTES]


async def _pieces(
    found: Page,
    following: Callable[[str, int], Awaitable[Page]],
    pace: Pace,
    *,
    limit: int | None,
    is_csv: bool,
) -> AsyncGenerator[bytes, None]:
    """The stream's body; a page is fetched once the client has taken nearly all before it.

    `following` fetches the page behind a cursor, of up to so many events, or raises what ends the
    stream.
    """
    piece = bytearray(csv_of([COLUMNS]) if is_csv else b"")
    left = limit
    while True:
        size = 0
        for line in map(_csv_line if is_csv else _json_line, found.events):
            piece += line
            size += len(line)
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
        pace.came(len(found.events), size)
        left = None if left is None else left - len(found.events)
        if found.next_cursor is None or left == 0:
            yield bytes(piece)
            return
        size = pace.size if left is None else min(left, pace.size)
        found = await following(found.next_cursor, size)


def _csv_line(event: Event) -> bytes:
    return csv_of([cells_of(event)])


def _json_line(event: Event) -> bytes:
    return body_of(event) + b"\n"
