"""The spool: durable local overflow of a log, in append-only segment files.

    DIRECTORY/INSTANCE/lock              held by the process that INSTANCE is named after
    DIRECTORY/INSTANCE/00000001.segment  events, oldest first; see segment.py
    DIRECTORY/damaged/                   bytes of segments that were no whole events
    DIRECTORY/quarantine/EVENT_ID.json   events that the store refused for their own sake

A crash leaves INSTANCE as it is, with its lock free: an orphan. The next process to start takes the
lock and drains the segments where they lie, from their beginning, deleting each when it is done.
A crash in that leaves the rest as an orphan again; restart is the normal path.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from muniment.errors import SpoolError
from muniment.spool.damage import DAMAGED, set_aside
from muniment.spool.directory import HeldDirectory, count_files, spool_error, sync_directory
from muniment.spool.orphans import adopt, orphans_in
from muniment.spool.quarantine import QUARANTINE, put_in_quarantine
from muniment.spool.segment import Bytes, Damage, Found, Segment, encode_record, scan
from muniment.stores.base import Sealed

_ATTEMPTS: Final = 3
_COUNTED_AT_ONCE: Final = 32 * 2**20
_USUAL_RECORD: Final = 600
_logger = logging.getLogger("muniment.spool")


class _Peeked(msgspec.Struct, gc=False):
    event: Sealed
    segment: Segment
    end: int
    spooled_at: float


class Spool:
    """Keeps events on this machine's disk, in order, until the store has them.

    Synchronous; any thread may call it, one at a time gets in. The figures (`pending` and the like)
    never wait. Nothing is read or written before the first call. A forked child starts with an
    empty spool of its own in the same directory. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = 16 * 2**20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory.absolute()
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._lost = 0
        self._watches_forks = False
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._own: HeldDirectory | None = None
        self._numbers = count(1)
        self._live: Segment | None = None
        self._owned: list[Segment] = []
        self._adopted: list[Segment] = []
        self._peeked: list[_Peeked] = []
        self._oldest: float | None = None

    # --- figures

    @property
    def pending(self) -> int:
        """How many events wait; estimated from their size where a great many were adopted."""
        return sum(segment.remaining for segment in self._segments())

    @property
    def pending_bytes(self) -> int:
        """How many bytes of segments wait to be drained."""
        return sum(segment.pending_bytes for segment in self._segments())

    @property
    def damaged(self) -> int:
        """How many damaged records there are in `damaged`, or are missing with their segment."""
        waiting = sum(len(segment.not_set_aside) for segment in self._segments())
        return count_files(self.directory / DAMAGED) + waiting + self._lost

    @property
    def quarantined(self) -> int:
        """How many events are in quarantine in this directory, whoever put them there."""
        return count_files(self.directory / QUARANTINE)

    def oldest_age(self, now: float | None = None) -> float | None:
        """Seconds since the oldest waiting event was spooled, None if none waits."""
        oldest = self._oldest
        if oldest is None or not self.pending:
            return None
        return max(0.0, (self._clock() if now is None else now) - oldest)

    def _segments(self) -> list[Segment]:
        return [*self._adopted, *self._owned]

    # --- appending

    def append(self, events: Sequence[Sealed]) -> None:
        """Keep the events, in order, all or none; they are durable when this returns.

        Raises `SpoolError`, and then none of them will be drained.
        """
        if not events:
            return
        with self._lock:
            now = self._clock()
            records = b"".join([encode_record(event, now) for event in events])
            was_empty = not self.pending
            try:
                for _ in range(_ATTEMPTS):
                    if self._write(records, len(events), now):
                        break
                else:
                    raise SpoolError(
                        f"{self.directory}: something keeps removing what is written there; keep "
                        "clean-up jobs away from it, or put the spool elsewhere (spool_dir)"
                    )
            except OSError as error:
                raise spool_error(error, self.directory) from error
            if was_empty:
                self._oldest = now

    def _write(self, records: bytes, events: int, now: float) -> bool:
        """Write to the live segment, or to a new one. False if our directory was taken from us."""
        if self._own is None:
            self._own = HeldDirectory.create(self.directory, now)
            self._numbers = count(1)
            self._watch_forks()
        own, live = self._own, self._live
        if live is not None and live.size + len(records) > self._segment_bytes:
            live.close()
            live = self._live = None
        try:
            if live is None:
                live = Segment.create(own.path / f"{next(self._numbers):08d}.segment", own)
            # On disk after a crash from here on: part of the batch, at the segment's end. Who adopts
            # it drains the whole records and sets a torn one aside; the caller was told nothing.
            size = live.write(records)
            if live is not self._live:
                sync_directory(own.path)
            # On disk after a crash from here on: all of the batch.
            is_kept = live.is_linked and own.is_ours()
        except FileNotFoundError:
            is_kept = False
        except BaseException:
            self._give_up(live)
            raise
        if live is None or not is_kept:
            _logger.warning("%s was removed or taken over; a new one is begun", own.path)
            self._give_up(live)
            self._own = None
            self._let_go(own)
            return False
        if live is not self._live:
            self._owned.append(live)
            self._live = live
        live.commit(size, events)
        return True

    def _give_up(self, live: Segment | None) -> None:
        """Undo a write that failed, and begin a new segment with the next one."""
        self._live = None
        if live is not None:
            live.roll_back()

    # --- draining

    def peek(self, limit: int, max_bytes: int = 8 * 2**20) -> list[Sealed]:
        """The oldest events not acknowledged, in order, up to `limit` and about `max_bytes`.

        At least one if there is any; what is damaged is set aside on the way. Their `may_repeat` is
        True. Raises `SpoolError` if they can't be read.
        """
        with self._lock:
            self._peeked = []
            try:
                for segment in self._segments():
                    if not self._read(segment, limit, max_bytes):
                        break
            except OSError as error:
                if not self._peeked:
                    raise spool_error(error, self.directory) from error
            if self._peeked:
                self._oldest = self._peeked[0].spooled_at
            return [peeked.event for peeked in self._peeked]

    def _read(self, segment: Segment, limit: int, max_bytes: int) -> bool:
        """Add the events of one segment to those peeked at; returns whether there is room for more."""
        peeked = self._peeked
        before = len(peeked)
        size = sum(len(p.event.body) for p in peeked)
        try:
            source = segment.open()
        except FileNotFoundError:
            self._report_missing(segment)
            return True
        with source:
            if not segment.is_counted:
                segment.count(source)
            for piece in scan(source, segment.acknowledged):
                if isinstance(piece, Found):
                    size += len(piece.event.body)
                    if len(peeked) >= limit or (peeked and size > max_bytes):
                        return False
                    peeked.append(_Peeked(piece.event, segment, piece.end, piece.spooled_at))
                    continue
                self._note_damage(segment, source, piece)
                if len(peeked) > before:
                    peeked[-1].end = piece.end
                else:
                    segment.acknowledged = piece.end
        if len(peeked) == before:
            segment.remaining = 0
            self._retire(segment)
        return True

    def acknowledge(self, count: int) -> None:
        """Forget the first `count` events of the last `peek` (of what is left of it): they are stored.

        Drained segments are deleted. Raises `SpoolError` if fewer were peeked at.
        """
        with self._lock:
            if not 0 <= count <= len(self._peeked):
                raise SpoolError(f"{count} events acknowledged, {len(self._peeked)} peeked at")
            done, self._peeked = self._peeked[:count], self._peeked[count:]
            for peeked in done:
                peeked.segment.acknowledged = peeked.end
                peeked.segment.remaining -= 1
                self._oldest = peeked.spooled_at
            if self._peeked:
                self._oldest = self._peeked[0].spooled_at
            # On disk after a crash here: the segments, whole. Their events are drained again.
            for segment in {id(peeked.segment): peeked.segment for peeked in done}.values():
                if segment.is_drained:
                    self._retire(segment)

    def _retire(self, segment: Segment) -> None:
        """Delete a drained segment; one that can't be deleted is tried again at the next peek."""
        segment.close()
        if segment is self._live:
            self._live = None
        self._set_aside(segment)
        if segment.not_set_aside:
            return
        try:
            # Not synced: should the file come back after a crash, it is drained again.
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self._report_once(segment, "can't be deleted", error)
            return
        self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        for segments in (self._adopted, self._owned):
            if segment in segments:
                segments.remove(segment)
        self._let_go(segment.directory)

    def _let_go(self, directory: HeldDirectory) -> None:
        """Remove a directory of which nothing is needed any more; our own stays until `close`."""
        if directory is not self._own and all(
            segment.directory is not directory for segment in self._segments()
        ):
            directory.remove_if_empty()

    # --- damage

    def _note_damage(self, segment: Segment, source: Bytes, damage: Damage) -> None:
        if damage.start in segment.known_damage:
            return
        if not segment.known_damage:
            segment.count(source)
        segment.known_damage.add(damage.start)
        segment.not_set_aside.append(damage)
        _logger.warning(
            "%s: %s; bytes %d to %d go to %s",
            segment.path,
            damage.problem,
            damage.start,
            damage.end,
            self.directory / DAMAGED,
        )
        self._set_aside(segment)

    def _set_aside(self, segment: Segment) -> None:
        """Copy what is damaged; while that fails the segment itself is kept."""
        try:
            set_aside(self.directory, segment)
        except OSError as error:
            self._report_once(segment, "is kept, damage in it can't be copied", error)

    def _report_missing(self, segment: Segment) -> None:
        """A segment was removed from outside: say so, and go on with the others."""
        if segment.remaining or segment.not_set_aside:
            lost = segment.remaining + len(segment.not_set_aside)
            self._lost += lost
            _logger.warning("%s was removed with %d events in it", segment.path, lost)
        segment.close()
        if segment is self._live:
            self._live = None
        self._forget(segment)

    def _report_once(self, segment: Segment, what: str, error: OSError) -> None:
        if not segment.was_reported:
            segment.was_reported = True
            _logger.warning("%s %s: %s", segment.path, what, spool_error(error, segment.path))

    # --- quarantine

    def quarantine(self, event: Sealed, reason: str) -> Path:
        """Put an event where people can read it, durably; returns the file.

        JSON: reason, event_id, tenant_id, quarantined_at and the body. Once is enough: the same
        event again returns the same file. Raises `SpoolError`.
        """
        with self._lock:
            try:
                return put_in_quarantine(self.directory, event, reason, self._clock())
            except OSError as error:
                raise spool_error(error, self.directory) from error

    # --- life

    def adopt_orphans(self) -> int:
        """Take over what dead processes left, oldest first, ahead of our own; returns the segments.

        Of the processes that try at once one gets them. Raises `SpoolError` if the directory can't
        be read; an orphan that can't be is left, with a warning.
        """
        with self._lock:
            try:
                orphans = orphans_in(self.directory)
            except OSError as error:
                raise spool_error(error, self.directory) from error
            held = {directory.path for directory in self._held()}
            adopted: list[Segment] = []
            for path in orphans:
                if path not in held:
                    try:
                        adopted += adopt(path)
                    except OSError as error:
                        _logger.warning("left alone: %s", spool_error(error, path))
            if adopted:
                self._watch_forks()
            self._adopted += adopted
            self._count(adopted)
            return len(adopted)

    def _count(self, segments: list[Segment]) -> None:
        """Count the events of adopted segments; beyond a few of them estimate, to start in no time."""
        scanned = events = 0
        for segment in segments:
            try:
                if scanned >= _COUNTED_AT_ONCE:
                    usual = scanned // events if events else _USUAL_RECORD
                    segment.remaining = max(1, segment.size // usual)
                    continue
                with segment.open() as source:
                    first = segment.count(source)
                scanned += segment.size
                events += segment.remaining
                if first is None:
                    self._read(segment, 0, 0)
                elif self._oldest is None or first < self._oldest:
                    self._oldest = first
            except OSError as error:
                segment.remaining = max(1, segment.size // _USUAL_RECORD)
                self._report_once(segment, "can't be read", error)

    def close(self) -> None:
        """Let go of everything; what is not drained is for the next process to adopt.

        The spool can be used again, and then begins anew.
        """
        with self._lock:
            held = self._held()
            if self._live is not None:
                self._live.close()
            self._start_empty()
            for directory in held:
                directory.remove_if_empty()

    def _held(self) -> list[HeldDirectory]:
        found = {id(segment.directory): segment.directory for segment in self._segments()}
        if self._own is not None:
            found[id(self._own)] = self._own
        return list(found.values())

    def _watch_forks(self) -> None:
        """Have a forked child let go of what is its parent's, before it does anything else."""
        if self._watches_forks:
            return
        self._watches_forks = True
        reference = weakref.ref(self)

        def forget_in_child() -> None:
            spool = reference()
            if spool is not None:
                spool._disown()  # noqa: SLF001

        os.register_at_fork(after_in_child=forget_in_child)

    def _disown(self) -> None:
        for directory in self._held():
            directory.release()
        if self._live is not None:
            self._live.close()
        self._lost = 0
        self._start_empty()
