"""The live tail, as server-sent events (WHATWG HTML, "Server-sent events")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, Final

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler
from msgspec import UNSET

from muniment.errors import MunimentError
from muniment.event import Event
from muniment.formats import body_of
from muniment.http.access import SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import asks
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.wire import EVENT_STREAM, Tail
from muniment.http.auth.identifying import is_welcome
from muniment.http.service import Service
from muniment.http.streaming import Streamed

_HEARTBEAT: Final = 15.0
_LOOK_AGAIN: Final = 10.0
"""After so many seconds it is seen whether the credential is good still."""
_HEAD: Final = b"retry: 2000\n\n"
_BEAT: Final = b":\n\n"
# Proxies that collect what they pass on would hold events back.
_HEADERS: Final = {"X-Accel-Buffering": "no"}


@get(
    "/v1/tail",
    dependencies={"asked": asks(Tail)},
    opt={
        SCOPE_KEY: Scope.READ,
        OPERATION_KEY: Operation(
            id="tailEvents",
            summary="Events as they are recorded",
            description="Server-sent events: `id` is the event_id, `event` is `event`, `data` is "
            "the stored body. A client that comes back with `Last-Event-ID` misses none and gets "
            "none twice. Comments keep an idle connection alive.",
            query=Tail,
            headers={"Last-Event-ID": "Begin behind this event: what was got last."},
            answers={200: Answer(description="The events.", bodies={EVENT_STREAM: str})},
            problems=(404,),
        ),
    },
)
async def tail_events(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Tail],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The stream of events."""
    return await open_tail(request, asked, caller, service)


ROUTES: tuple[ControllerRouterHandler, ...] = (tail_events,)


async def open_tail(
    request: Request[Any, Any, Any],
    asked: Tail,
    caller: Caller,
    service: Service,
    data_of: Callable[[Event], bytes] = body_of,
) -> Response[bytes]:
    """The response that streams what is asked for; `data_of` gives an event's line of data."""
    filters = asked.arguments()
    tenant_id = filters["tenant_id"] = caller.tenant(filters.get("tenant_id"))
    after = request.headers.get("last-event-id") or (None if asked.after is UNSET else asked.after)
    started = asyncio.Event()
    events = service.log.tail(**filters, after=after, started=started.set)
    tail = _Tail(request, service, events, data_of)
    try:
        await tail.start(started)
        shown = {name: value for name, value in filters.items() if value is not None}
        await service.readings.view(caller, tenant_id, {"what": "tail", "filters": shown})
    except BaseException:
        await tail.end()
        raise
    return Streamed(tail.pieces(), media_type=EVENT_STREAM, headers=_HEADERS, ended=tail.end)


class _Tail:
    """One open tail: it fetches its next event only once the client has taken the last one."""

    def __init__(
        self,
        request: Request[Any, Any, Any],
        service: Service,
        events: AsyncGenerator[Event, None],
        data_of: Callable[[Event], bytes],
    ) -> None:
        self._request = request
        self._service = service
        self._events = events
        self._data_of = data_of
        self._next = asyncio.create_task(_following(events))
        self._closing = asyncio.create_task(service.closing.wait())

    async def start(self, started: asyncio.Event) -> None:
        """Return once the place is known from which on nothing is missed. Raises what is wrong."""
        begun = asyncio.create_task(started.wait())
        try:
            await asyncio.wait((self._next, begun), return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
        if not started.is_set():
            self._next.result()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body of the response."""
        loop = asyncio.get_running_loop()
        look_again = loop.time() + _LOOK_AGAIN
        beat = loop.time() + _HEARTBEAT
        yield _HEAD
        while not self._service.closing.is_set():
            await asyncio.wait(
                (self._next, self._closing),
                timeout=max(min(look_again, beat) - loop.time(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if loop.time() >= look_again:
                if not await is_welcome(self._request, Scope.READ):
                    return
                look_again = loop.time() + _LOOK_AGAIN
            if self._next.done():
                yield _message(self._next.result(), self._data_of)
                beat = loop.time() + _HEARTBEAT
                self._next = asyncio.create_task(_following(self._events))
            elif loop.time() >= beat:
                yield _BEAT
                beat = loop.time() + _HEARTBEAT

    async def end(self) -> None:
        """Stop fetching."""
        for task in (self._next, self._closing):
            task.cancel()
            with suppress(asyncio.CancelledError, MunimentError):
                await task
        await self._events.aclose()


async def _following(events: AsyncGenerator[Event, None]) -> Event:
    return await anext(events)


def _message(event: Event, data_of: Callable[[Event], bytes]) -> bytes:
    """An event's message: JSON has no line breaks here, so it is one line of data."""
    return b"id: %b\nevent: event\ndata: %b\n\n" % (event.event_id.encode(), data_of(event))
