"""What runs in each process that answers: a log of its own, the application, and its end.

At SIGTERM or SIGINT the server takes no more connections and lets requests finish. What would
never finish is told by `Service.closing`; what has not finished after `drain_seconds` is cut off.
Then the log is flushed and closed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from typing import Any, Final
from urllib.parse import quote

import msgspec
from litestar.exceptions import LitestarException

from muniment.errors import MunimentError
from muniment.http.app import make_app
from muniment.http.problems import MEDIA_TYPE, Refusal
from muniment.http.service import Service
from muniment.http.settings import ServiceSettings
from muniment.log import AuditLog

ACCESS_LOGGER: Final = "muniment.http.access"

_log: Final = logging.getLogger("muniment.http")
_access: Final = logging.getLogger(ACCESS_LOGGER)
# What was cut off gets this long to leave, before the process ends without it.
_LEAVING: Final = 1.0


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Within the block signals to end wait. A process that is started there holds them back, too.

    Else they would call the handlers that it has from its parent, and be forgotten: until it has
    loaded its application it has none of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to serve. `is_up` is set once it answers."""

    url: str
    settings: ServiceSettings
    is_up: Event


def load(work: Work, _: str) -> Callable[..., Any]:
    """The application of this process. It is called in the worker, whose event loop is set."""
    log = AuditLog.open(work.url)
    app = make_app(log, work.settings)
    return Worker(app, app.state.service, work.is_up)


class Worker:
    """An ASGI application that knows what it is at, so that it can end."""

    def __init__(self, app: Any, service: Service, is_up: Event) -> None:
        self._app = app
        self._service = service
        self._is_up = is_up
        self._at_work: set[asyncio.Task[Any]] = set()
        self._draining: asyncio.Task[None] | None = None
        self._cuts_off = False
        self._logs_access = service.settings.access_log
        _watch_signals(asyncio.get_event_loop(), self._begin_to_end)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or live through the application's life."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # the server runs each request in one
        self._at_work.add(task)
        try:
            if self._logs_access:
                await self._answer_and_tell(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._cuts_off:
                raise
            with suppress(Exception):  # the answer may have begun, or the client be gone
                await _say_closing(send)
        except LitestarException as error:  # the answer had begun
            _tell_why(scope, error)
            raise BrokenOff from None  # then the server breaks the connection off
        finally:
            self._at_work.discard(task)

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        async def received() -> Any:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._draining is not None:
                self._draining.cancel()
            return message

        async def sent(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._ready()
            await send(message)

        await self._app(scope, received, sent)

    def _ready(self) -> None:
        # What has been made by now stays: the collector need never look at it again.
        gc.collect()
        gc.freeze()
        parent = multiprocessing.parent_process()
        if parent is not None:  # a worker doesn't outlive it, not even its SIGKILL
            asyncio.get_running_loop().add_reader(parent.sentinel, _orphaned, parent.sentinel)
        self._is_up.set()

    def _begin_to_end(self) -> None:
        if self._draining is None:
            self._service.closing.set()
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Cut off what does not finish; end the process if even that does not help."""
        await asyncio.sleep(self._service.settings.drain_seconds)
        self._cuts_off = True
        if self._at_work:
            _log.warning("cut off, for they did not finish: %d requests", len(self._at_work))
        for task in list(self._at_work):
            task.cancel()
        await asyncio.sleep(_LEAVING)
        # A client that takes nothing off the wire holds its connection, and the server with it.
        await self._service.log.close()
        os._exit(0)

    async def _answer_and_tell(self, scope: Any, receive: Any, send: Any) -> None:
        """One line a request. No query, header or body: a token may be in any of them."""
        began = time.perf_counter()
        status = 0

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            took = (time.perf_counter() - began) * 1000
            _access.info("%s %s %d %.1f ms", scope["method"], quote(scope["path"]), status, took)


class BrokenOff(Exception):
    """An answer ends before its end. Why has been logged."""


class IsNews(logging.Filter):
    """Leaves out what the server says of a `BrokenOff`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        return BrokenOff.__qualname__ not in record.getMessage()


def _tell_why(scope: Any, error: BaseException) -> None:
    while isinstance(error, LitestarException) and error.__cause__ is not None:
        error = error.__cause__  # each layer wraps it
    known = isinstance(error, Refusal | MunimentError | TimeoutError)
    reason = "its client takes nothing" if isinstance(error, TimeoutError) else error
    _log.log(
        logging.WARNING if known else logging.ERROR,
        "%s %s: the answer was broken off: %s",
        scope["method"],
        quote(scope["path"]),
        reason,
        exc_info=None if known else error,
    )


async def _say_closing(send: Any) -> None:
    refusal = Refusal(503, "closing", "The service is ending; send the same again.")
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(refusal.problem)})


def _watch_signals(loop: Any, tell: Callable[[], None]) -> None:
    """Have `tell` called as well when the server's own handler of a signal to end is.

    Once: Ctrl-C at a terminal reaches this process, and then the one that started it, which sends
    another signal. The server's handler stands still for good if it is called again. Signals that
    were held back while this process was starting come once the loop runs.
    """
    add: Callable[..., None] = loop.add_signal_handler
    is_told = False

    def added(number: int, handler: Callable[..., None], *arguments: Any) -> None:
        def both() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                tell()
                handler(*arguments)

        add(number, both)
        # Not before the loop runs: until then it would forget the signal.
        loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, [number])

    loop.add_signal_handler = added


def _orphaned(sentinel: int) -> None:
    asyncio.get_running_loop().remove_reader(sentinel)
    os.kill(os.getpid(), signal.SIGTERM)
