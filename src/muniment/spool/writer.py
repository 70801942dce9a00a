"""The spool's writing side: the segments of this process instance, and the one that grows."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path
from typing import Final

from muniment.diagnostics import Diagnostics
from muniment.errors import SpoolError
from muniment.spool.directory import HeldDirectory, sync_directory
from muniment.spool.segment import Segment

_ATTEMPTS: Final = 3


class Writer:
    """Appends records to segments in a directory of our own, made when it is first needed.

    Not thread-safe: the spool lets one thread in at a time.
    """

    def __init__(self, base: Path, segment_bytes: int, diagnostics: Diagnostics) -> None:
        self.directory: HeldDirectory | None = None
        self.segments: list[Segment] = []
        self._base = base
        self._segment_bytes = segment_bytes
        self._diagnostics = diagnostics
        self._numbers = count(1)
        self._live: Segment | None = None

    def append(self, records: bytes, events: int, now: float) -> None:
        """Keep the records of so many events, all or none, durably.

        `now` is Unix seconds. Raises `OSError` or `SpoolError`.
        """
        for _ in range(_ATTEMPTS):
            if self._write(records, events, now):
                return
        raise SpoolError(
            f"{self._base}: something keeps removing what is written there; keep clean-up jobs "
            "away from it, or put the spool elsewhere (spool_dir)"
        )

    def end(self, segment: Segment) -> None:
        """Write no more to a segment."""
        segment.close()
        if segment is self._live:
            self._live = None

    def close(self) -> None:
        """Write no more at all."""
        if self._live is not None:
            self.end(self._live)

    def _write(self, records: bytes, events: int, now: float) -> bool:
        """Write to the live segment, or to a new one. False if our directory was taken from us."""
        if self.directory is None:
            self.directory = HeldDirectory.create(self._base, now)
            self._numbers = count(1)
        own, live = self.directory, self._live
        if live is not None and live.size + len(records) > self._segment_bytes:
            self.end(live)
            live = None
        try:
            if live is None:
                live = Segment.create(own.path / f"{next(self._numbers):08d}.segment", own)
            # On disk after a crash from here on: part of the batch, at the segment's end. Who
            # adopts it drains the whole records and sets a torn one aside; the caller was told
            # nothing.
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
            self._diagnostics.report(
                logging.WARNING,
                "taken",
                "%s was removed or taken over; a new one is begun",
                own.path,
            )
            self._give_up(live)
            self._leave(own)
            return False
        if live is not self._live:
            self.segments.append(live)
            self._live = live
        live.commit(size, events)
        return True

    def _give_up(self, live: Segment | None) -> None:
        """Undo a write that failed, and begin a new segment with the next one."""
        self._live = None
        if live is not None:
            live.roll_back()

    def _leave(self, own: HeldDirectory) -> None:
        self.directory = None
        if all(segment.directory is not own for segment in self.segments):
            own.remove_if_empty()
