"""The intake: events on their way in, from any thread, until they are placed."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from muniment.errors import LogClosed, MunimentError
from muniment.sealing import Draft
from muniment.stores.base import Sealed, StoredEvent


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where an event ended: in the store (perhaps `already` there), in the spool, or nowhere."""

    place: str
    already: StoredEvent | None = None
    error: MunimentError | None = None


STORED: Final = Placement("store")
SPOOLED: Final = Placement("spool")
_REST: Final = 500
"""Bytes of a usual body that are not its details."""


class Ticket:
    """Waits for the placements of some events, in their order."""

    __slots__ = ("_missing", "future", "placements")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.placements: list[Placement] = [STORED] * count
        self._missing = count
        self.future: asyncio.Future[list[Placement]] = loop.create_future()

    def place(self, n: int, placement: Placement) -> None:
        """Say where the n-th event ended."""
        self.placements[n] = placement
        self.store(1)

    def store(self, count: int) -> None:
        """Say that so many more events have ended, those not placed elsewhere in the store."""
        self._missing -= count
        if self._missing <= 0 and not self.future.done():
            self.future.set_result(self.placements)


class Queued(msgspec.Struct, gc=False):
    """An event, and whom to tell where it ended: None if nobody waits for it.

    `size` is that of its body, in bytes, as far as it is known.
    """

    given: Sealed | Draft
    ticket: Ticket | None = None
    place_in_ticket: int = 0
    size: int = 0

    @property
    def event(self) -> Sealed:
        """The event, sealed now at the latest."""
        given = self.given
        if isinstance(given, Draft):
            given = self.given = given.seal()
        return given

    def place(self, placement: Placement) -> None:
        """Say where it ended."""
        if self.ticket is not None:
            self.ticket.place(self.place_in_ticket, placement)


def place_stored(batch: Sequence[Queued], already: Mapping[int, StoredEvent]) -> None:
    """Say of all of them that they are in the store, and which ones were `already`."""
    if already:
        for n, queued in enumerate(batch):
            there = already.get(n)
            queued.place(STORED if there is None else Placement("store", there))
        return
    for ticket, several in groupby(batch, attrgetter("ticket")):
        if ticket is not None:
            ticket.store(sum(1 for _ in several))


def _size_of(given: Sealed | Draft) -> int:
    return given.details_size + _REST if isinstance(given, Draft) else len(given.body)


class Intake:
    """Events in the order in which they came: those that wait, and the batch being placed.

    Thread-safe. While they spill, no batch is taken, and all that comes waits behind. `emitted` and
    `emitted_bytes` are what nobody waits for and only a limit keeps from filling the memory.
    """

    def __init__(self) -> None:
        # A signal handler may emit in the middle of an emit: it must not wait for itself.
        self._lock = threading.RLock()
        self._waiting: deque[Queued] = deque()
        self._batch: Sequence[Queued] = ()
        self._is_spilling = False
        self._may_spill = True
        self._is_closed = False
        self._popped = 0
        self.batch_is_spooled = False
        self.emitted = 0
        self.emitted_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._batch)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of bodies wait or are being placed."""
        # Counted when somebody asks: that costs those who record nothing.
        with self._lock:
            queued = [*self._batch, *self._waiting]
        return sum(one.size for one in queued)

    @property
    def received(self) -> int:
        """How many events ever came in."""
        with self._lock:
            return self._popped + len(self._waiting)

    @property
    def placed(self) -> int:
        """How many of the events that ever came in are placed, counted from the first on."""
        with self._lock:
            return self._popped - len(self._batch)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is being placed or spills."""
        with self._lock:
            return not (self._waiting or self._batch or self._is_spilling)

    def close(self) -> None:
        """Let in nothing more."""
        with self._lock:
            self._is_closed = True

    def put(self, given: Sealed | Draft) -> bool:
        """Add an emitted event; whether it is the first that waits. Raises `LogClosed`."""
        size = _size_of(given)
        queued = Queued(given, None, 0, size)
        with self._lock:
            if self._is_closed:
                raise LogClosed
            self.emitted += 1
            self.emitted_bytes += size
            self._waiting.append(queued)
            return len(self._waiting) == 1

    def put_all(self, events: Sequence[Sealed], ticket: Ticket) -> None:
        """Add events that somebody waits for, together. Raises `LogClosed`."""
        with self._lock:
            if self._is_closed:
                raise LogClosed
            self._waiting.extend(
                Queued(event, ticket, n, len(event.body)) for n, event in enumerate(events)
            )

    def take(self, count: int, size: int) -> Sequence[Queued]:
        """The next batch to place, of up to `count` events and about `size` bytes of bodies.

        It is empty while nothing waits and while the intake spills.
        """
        batch: list[Queued] = []
        with self._lock:
            if self._is_spilling:
                return batch
            while self._waiting and len(batch) < count and size > 0:
                batch.append(queued := self._pop())
                size -= queued.size
            self._batch = batch
            self.batch_is_spooled = False
            self._may_spill = True
        return batch

    def finish(self) -> None:
        """The batch is placed."""
        with self._lock:
            self._batch = ()

    def begin_spilling(self) -> bool:
        """Whether to `spill` now: not if that is on its way, or failed and nothing was taken since.

        In the latter case the store is the only hope.
        """
        with self._lock:
            begins = self._may_spill and not self._is_spilling
            self._is_spilling |= begins
        return begins

    def spill(self, append: Callable[[Sequence[Sealed]], None]) -> list[Queued]:
        """Move all that waits to the spool through `append`; returns what was moved.

        The batch that is being placed goes first, so that order holds: it may yet fail. If it does
        not, draining finds it stored. What `append` raises is raised, and then all still waits.
        """
        with self._lock:
            batch = () if self.batch_is_spooled else self._batch
            waiting = list(self._waiting)
        done = False
        try:
            append([queued.event for queued in (*batch, *waiting)])
            done = True
        finally:
            with self._lock:
                if done:
                    for _ in waiting:
                        self._pop()
                    self.batch_is_spooled = True
                self._may_spill = done
                self._is_spilling = False
        return waiting

    def _pop(self) -> Queued:
        queued = self._waiting.popleft()
        self._popped += 1
        if queued.ticket is None:
            self.emitted -= 1
            self.emitted_bytes -= queued.size
        return queued
