"""The default log: the one behind `configure` and the `write_*` functions.

It lives on an event loop in a daemon thread of its own, so that it outlasts the loops of its
callers and serves those of every thread. It opens with the first event. A forked child opens its
own. At the end of the process it is closed, before the threads that it needs are ended.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from muniment.canonical import MAX_DETAILS_BYTES
from muniment.config import default_url
from muniment.diagnostics import Diagnostics
from muniment.errors import InvalidConfig
from muniment.event import Event
from muniment.log import AuditLog

TenantOf = Callable[[], object]
_GRACE: Final = 3.0


def configure(url: str | None = None, *, tenant_of: TenantOf | None = None, **options: Any) -> None:
    """Say where the `write_*` functions record: a store's URL, else `MUNIMENT_URL`.

    `tenant_of` is called without arguments, in the caller's context, for the tenant of an event
    that names none: usually the `get` of a context variable. `options` are those of
    `AuditLog.open`; with `tenant_id`, every event is recorded under that tenant. Nothing is
    connected yet.

    Called again, it replaces the default log. What the former one holds is made durable first, in
    its own thread; this waits for it, but not longer than its `deadline`, and then leaves it to
    finish by itself. Raises `InvalidConfig`, and then nothing has changed.
    """
    if tenant_of is not None and (
        not callable(tenant_of) or inspect.iscoroutinefunction(tenant_of)
    ):
        msg = "tenant_of: must be a function without arguments, and not a coroutine function"
        raise InvalidConfig(msg)
    setup = Setup(url or default_url(), options, tenant_of)
    setup.make_log()
    former = _default.replace(setup)
    if former is not None:
        former.close()
        former.wait(former.deadline)


class Setup(msgspec.Struct, frozen=True):
    """What `configure` was given."""

    url: str
    options: Mapping[str, Any] = {}
    tenant_of: TenantOf | None = None

    def make_log(self) -> AuditLog:
        """A log that is not open yet. Raises `InvalidConfig`."""
        return AuditLog.open(self.url, **self.options)

    @property
    def bound_tenant(self) -> str | None:
        """The one tenant under which everything is recorded, if there is one."""
        return self.options.get("tenant_id")

    @property
    def max_details_bytes(self) -> int:
        """How many bytes of JSON an event's details may take."""
        most: int = self.options.get("max_details_bytes", MAX_DETAILS_BYTES)
        return most


def current_setup() -> Setup:
    """What was configured, else what the environment says."""
    return _default.setup()


async def record(event: Event) -> None:
    """Record an event in the default log, durably before it returns; or log that it failed.

    It is handed over at once: cancelling the caller does not take it back. The wait is bounded,
    even where store and spool both hang. Raises `InvalidConfig` if `MUNIMENT_URL` names no store.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[None] = loop.create_future()
    patience = _default.hand_over(event, answer)
    timer = loop.call_later(patience, _give_up, answer, patience)
    try:
        await answer
    finally:
        timer.cancel()


def report(message: str, *values: object) -> None:
    """Log an error, rate-limited. Never raises, whatever the handlers of the log do."""
    with suppress(Exception):
        _default.diagnostics.report(logging.ERROR, message, message, *values)


def _give_up(answer: asyncio.Future[None], patience: float) -> None:
    if not answer.done():
        report("an event was handed over, but is not durable after %g s", patience)
        answer.set_result(None)


class _LogThread:
    """An open log on an event loop in a thread of its own. Any thread may hand over events."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self.deadline = log.deadline
        self._gate = threading.Lock()
        self._inbox: deque[tuple[Event, asyncio.Future[None]]] = deque()
        self._is_woken = False
        self._is_open = False
        self.is_closing = False
        self._finished = threading.Event()
        self._recording: set[asyncio.Task[None]] = set()
        self._answered: list[asyncio.Future[None]] = []
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="muniment-log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    # --- in any thread

    def hand_over(self, event: Event, answer: asyncio.Future[None]) -> bool:
        """Take an event, and resolve `answer` in its own loop once it is durable or lost.

        False if the log is being closed. Many that come at once wake our loop once.
        """
        with self._gate:
            if self.is_closing:
                return False
            self._inbox.append((event, answer))
            was_woken, self._is_woken = self._is_woken, True
        if not was_woken:
            self._call(self._take)
        return True

    def close(self) -> None:
        """Begin to make everything durable that was handed over, and to close the log."""
        with self._gate:
            self.is_closing = True
        self._call(self._closing.set)

    def wait(self, seconds: float) -> bool:
        """Wait until it is closed; returns whether it is. In its own thread there is no waiting."""
        if threading.current_thread() is self._thread:
            return False
        return self._finished.wait(max(0.0, seconds))

    def _call(self, work: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: all that was handed over is done
            self._loop.call_soon_threadsafe(work)

    # --- in our thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait forever
            report("the default log failed: %r", error)
        finally:
            with self._gate:
                self.is_closing = True
            # Only a log that could not be opened leaves any.
            for event, answer in self._inbox:
                put_in_spool(self._log, event)
                self._answer(answer)
            self._send_answers()
            self._finished.set()

    async def _main(self) -> None:
        # A store that must be refused (its schema is missing, say) is no reason to lose events.
        await self._log._start(insist=False)  # noqa: SLF001 - for the default log only
        self._is_open = True
        self._take()
        await self._closing.wait()
        self._take()
        while self._recording:
            await asyncio.wait(self._recording)
        await self._log.close()

    def _take(self) -> None:
        if not self._is_open:
            return
        self._is_woken = False  # before we look: what comes from here on wakes us again
        while self._inbox:
            task = self._loop.create_task(self._record(*self._inbox.popleft()))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)

    async def _record(self, event: Event, answer: asyncio.Future[None]) -> None:
        try:
            await self._log.record(event, on_error="log")
        except Exception as error:  # noqa: BLE001 - the caller is never broken
            report("an event is lost: %r", error)
        finally:
            self._answer(answer)

    def _answer(self, answer: asyncio.Future[None]) -> None:
        if not self._answered and not self._loop.is_closed():
            self._loop.call_soon(self._send_answers)
        self._answered.append(answer)

    def _send_answers(self) -> None:
        """Resolve the answers of one commit, waking each of the callers' loops once."""
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for answer in self._answered:
            by_loop.setdefault(answer.get_loop(), []).append(answer)
        self._answered = []
        for loop, answers in by_loop.items():
            with suppress(RuntimeError):  # that loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_resolve, answers)


def _resolve(answers: list[asyncio.Future[None]]) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_result(None)


def put_in_spool(log: AuditLog, event: Event) -> None:
    """Put an event into the spool of a log that can't be opened, here and now, or log the failure.

    The next process that opens such a log brings it into the store.
    """
    try:
        log._spool_at_once(event)  # noqa: SLF001 - for the default log only
    except Exception as error:  # noqa: BLE001 - the caller is never broken
        report("an event is lost: %r", error)


class _DefaultLog:
    """The setup and the thread of this process; a forked child begins with the setup alone."""

    def __init__(self) -> None:
        self.diagnostics = Diagnostics()
        self._lock = threading.Lock()
        self._setup: Setup | None = None
        self._running: _LogThread | None = None
        self._former: list[_LogThread] = []
        self._inherited: list[_LogThread] = []
        self._is_watching = False
        self._is_over = False

    def setup(self) -> Setup:
        if self._setup is None:
            self._setup = Setup(default_url())
        return self._setup

    def replace(self, setup: Setup) -> _LogThread | None:
        """Use another setup from now on; returns the former thread, which is to be closed."""
        with self._lock:
            former, self._running, self._setup = self._running, None, setup
            self._former = [thread for thread in self._former if not thread.wait(0)]
            if former is not None:
                self._former.append(former)
            return former

    def hand_over(self, event: Event, answer: asyncio.Future[None]) -> float:
        """Hand an event to the log; returns for how many seconds to wait for the answer."""
        while not self._is_over:
            try:
                thread = self._thread()
            except (OSError, RuntimeError) as error:
                report("the default log has no thread: %r", error)
                break
            if thread.hand_over(event, answer):
                # Behind a batch that takes its deadline it may take its own, and then the spool's.
                return 2 * thread.deadline + _GRACE
        # No thread can be had: there are too many, or the process ends and this is its atexit.
        put_in_spool(self.setup().make_log(), event)
        answer.set_result(None)
        return 0.0

    def _thread(self) -> _LogThread:
        with self._lock:
            if self._running is None or self._running.is_closing:
                log = self.setup().make_log()
                self._watch()
                self._running = _LogThread(log)
            return self._running

    def _watch(self) -> None:
        """See to what must be done in a forked child, and at the end of the process."""
        if self._is_watching:
            return
        self._is_watching = True
        os.register_at_fork(after_in_child=self._begin_anew)
        # An atexit function would run too late: the executors of `concurrent.futures`, in which
        # store and spool do their work, are ended before, by the same means as this one.
        getattr(threading, "_register_atexit", atexit.register)(self.end)

    def _begin_anew(self) -> None:
        """In a forked child: nothing of the parent's is used, waited for, or even closed."""
        self._lock = threading.Lock()
        self._inherited += [*self._former, *([self._running] if self._running else [])]
        self._former, self._running = [], None

    def end(self, *, for_good: bool = True) -> None:
        """Flush and close the log, and former ones that are still at it; the wait is bounded."""
        with self._lock:
            self._is_over = for_good
            threads = [*self._former, *([self._running] if self._running else [])]
            self._former, self._running = [], None
        for thread in threads:
            thread.close()
        until = time.monotonic() + max((thread.deadline for thread in threads), default=0) + _GRACE
        for thread in threads:
            if not thread.wait(until - time.monotonic()):
                report("the default log could not be closed in time")


_default = _DefaultLog()
