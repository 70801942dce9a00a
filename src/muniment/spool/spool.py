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
from pathlib import Path
from typing import Final

import msgspec

from muniment.diagnostics import Diagnostics
from muniment.errors import SpoolError
from muniment.spool.damage import DAMAGED, set_aside
from muniment.spool.directory import HeldDirectory, count_files, spool_error
from muniment.spool.orphans import adopt, orphans_in
from muniment.spool.quarantine import QUARANTINE, put_in_quarantine
from muniment.spool.segment import Bytes, Damage, Found, Segment, encode_record, scan
from muniment.spool.writer import Writer
from muniment.stores.base import Sealed

_COUNTED_AT_ONCE: Final = 32 * 2**20
_USUAL_RECORD: Final = 600


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
        self._watches_forks = False
        self._lock = threading.Lock()
        self._diagnostics = Diagnostics("muniment.spool")
        self._damaged = 0
        self._gone = 0
        self._quarantined = 0
        self._start_empty()

    def _start_empty(self) -> None:
        self._writer = Writer(self.directory, self._segment_bytes, self._diagnostics)
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
        """How many damaged records were found, or went missing with their segment.

        What others put into `damaged`, or took away, counts as of `adopt_orphans` or `recount`.
        """
        waiting = sum(len(segment.not_set_aside) for segment in self._segments())
        return self._damaged + self._gone + waiting

    @property
    def quarantined(self) -> int:
        """How many events are in quarantine in this directory.

        What others put there, or took away, counts as of `adopt_orphans` or `recount`.
        """
        return self._quarantined

    def oldest_age(self, now: float | None = None) -> float | None:
        """Seconds since the oldest waiting event was spooled, None if none waits."""
        oldest = self._oldest
        if oldest is None or not self.pending:
            return None
        return max(0.0, (self._clock() if now is None else now) - oldest)

    def _segments(self) -> list[Segment]:
        return [*self._adopted, *self._writer.segments]

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
            self._watch_forks()
            try:
                self._writer.append(records, len(events), now)
            except OSError as error:
                raise spool_error(error, self.directory) from error
            if was_empty:
                self._oldest = now

    # --- draining

    def peek(self, limit: int, max_bytes: int = 8 * 2**20) -> list[Sealed]:
        """The oldest events not acknowledged, in order, up to `limit` and about `max_bytes`.

        At least one if there is any; what is damaged is set aside on the way. Their `may_repeat` is
        True. Raises `SpoolError` if they can't be read.
        """
        with self._lock:
            self._peeked = []
            problem: SpoolError | None = None
            for segment in self._segments():
                try:
                    if not self._read(segment, limit, max_bytes):
                        break
                except OSError as error:
                    # One that can't be read does not hold up the others; it is tried again.
                    problem = spool_error(error, segment.path)
                    self._report_once(segment, "is kept, it can't be read", problem)
            if self._peeked:
                self._oldest = self._peeked[0].spooled_at
            elif problem is not None:
                raise problem
            return [peeked.event for peeked in self._peeked]

    def _read(self, segment: Segment, limit: int, max_bytes: int) -> bool:
        """Add the events of one segment to those peeked at; whether there is room for more."""
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
        """Forget the first `count` events of the last `peek`, for they are stored.

        What is left of that `peek` may be acknowledged later. Drained segments are deleted. Raises
        `SpoolError` if fewer were peeked at.
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
        self._writer.end(segment)
        self._set_aside(segment)
        if segment.not_set_aside:
            return
        try:
            # Not synced: should the file come back after a crash, it is drained again.
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self._report_once(segment, "can't be deleted", spool_error(error, segment.path))
            return
        self._forget(segment)

    def _forget(self, segment: Segment) -> None:
        for segments in (self._adopted, self._writer.segments):
            if segment in segments:
                segments.remove(segment)
        # A directory of which nothing is needed any more goes too; our own stays until `close`.
        if all(directory is not segment.directory for directory in self._held()):
            segment.directory.remove_if_empty()

    # --- damage

    def _note_damage(self, segment: Segment, source: Bytes, damage: Damage) -> None:
        if damage.start in segment.known_damage:
            return
        if not segment.known_damage:
            segment.count(source)
        segment.known_damage.add(damage.start)
        segment.not_set_aside.append(damage)
        self._warn(
            "damage",
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
            while segment.not_set_aside:
                self._damaged += set_aside(self.directory, segment, segment.not_set_aside[0])
                del segment.not_set_aside[0]
        except OSError as error:
            problem = spool_error(error, segment.path)
            self._report_once(segment, "is kept, damage in it can't be copied", problem)

    def _report_missing(self, segment: Segment) -> None:
        """A segment was removed from outside: say so, and go on with the others."""
        if segment.remaining or segment.not_set_aside:
            lost = segment.remaining + len(segment.not_set_aside)
            self._gone += lost
            self._warn("gone", "%s was removed with %d events in it", segment.path, lost)
        self._writer.end(segment)
        self._forget(segment)

    def _report_once(self, segment: Segment, what: str, problem: SpoolError) -> None:
        if not segment.was_reported:
            segment.was_reported = True
            self._warn(what, "%s %s: %s", segment.path, what, problem)

    def _warn(self, kind: str, message: str, *values: object) -> None:
        self._diagnostics.report(logging.WARNING, kind, message, *values)

    # --- quarantine

    def quarantine(self, event: Sealed, reason: str) -> Path:
        """Put an event where people can read it, durably; returns the file.

        JSON: reason, event_id, tenant_id, quarantined_at and the body. Once is enough: the same
        event again returns the same file. Raises `SpoolError`.
        """
        with self._lock:
            try:
                path, is_new = put_in_quarantine(self.directory, event, reason, self._clock())
            except OSError as error:
                raise spool_error(error, self.directory) from error
            self._quarantined += is_new
            return path

    def recount(self) -> None:
        """Count what is in `damaged` and in quarantine: people and other processes change that."""
        with self._lock:
            self._count_put_aside()

    def _count_put_aside(self) -> None:
        self._damaged = count_files(self.directory / DAMAGED)
        self._quarantined = count_files(self.directory / QUARANTINE)

    # --- life

    def adopt_orphans(self) -> int:
        """Take over what dead processes left, oldest first, ahead of our own; returns the segments.

        Of the processes that try at once one gets them. Raises `SpoolError` if the directory can't
        be read; an orphan that can't be is left, with a warning.
        """
        with self._lock:
            self._count_put_aside()
            try:
                orphans = orphans_in(self.directory)
            except OSError as error:
                raise spool_error(error, self.directory) from error
            held = {directory.path for directory in self._held()}
            adopted: list[Segment] = []
            for path in orphans:
                if path not in held:
                    try:
                        adopted += adopt(path, self._diagnostics)
                    except OSError as error:
                        self._warn("orphan", "left alone: %s", spool_error(error, path))
            self._watch_forks()
            self._adopted += adopted
            self._count(adopted)
            return len(adopted)

    def _count(self, segments: list[Segment]) -> None:
        """Count the events of adopted segments; estimate beyond a few, to start in no time."""
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
                self._report_once(segment, "can't be read", spool_error(error, segment.path))

    def close(self) -> None:
        """Let go of everything; what is not drained is for the next process to adopt.

        The spool can be used again, and then begins anew.
        """
        with self._lock:
            held = self._held()
            self._writer.close()
            self._start_empty()
            self._diagnostics.tell_rest()
            for directory in held:
                directory.remove_if_empty()

    def _held(self) -> list[HeldDirectory]:
        found = {id(segment.directory): segment.directory for segment in self._segments()}
        own = self._writer.directory
        if own is not None:
            found[id(own)] = own
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
        self._lock = threading.Lock()  # ours may have been held when the process forked
        for directory in self._held():
            directory.release()
        self._writer.close()
        self._start_empty()
