"""Watching a log: a snapshot of its figures, and what they say of its health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from muniment.metrics import Histogram
from muniment.spool.quarantine import QUARANTINE

HealthState = Literal["ok", "degraded", "failing"]


class Health(msgspec.Struct, frozen=True):
    """How a log does, and each problem in plain words.

    `state` is "ok"; "degraded" if nothing is lost, but somebody should look; or "failing" if
    events were lost a short while ago, or are stuck, or can't be recorded at all.
    """

    state: HealthState
    problems: tuple[str, ...] = ()


class Sequencing(msgspec.Struct, frozen=True, kw_only=True):
    """What a sequencer does, as far as that is known without asking the store.

    `integrated` and `published` count events and checkpoints since the log was opened; `signs` is
    whether there is a key. `why_not` is why this one may not sequence, while another may.
    `unanchored` maps each anchor that fails to the reason.
    """

    lag_seconds: float = 0.0
    culprits: tuple[str, ...] = ()
    integrated: int = 0
    published: int = 0
    signs: bool = False
    why_not: str | None = None
    error: str | None = None
    unanchored: dict[str, str] = msgspec.field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """The figures as `stats` has them, ready for JSON."""
        return {**msgspec.structs.asdict(self), "culprits": list(self.culprits)}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What an open log does now, as far as that is known without asking the store.

    `counts` are those of events since it was opened, by what became of them. `store_error` is why
    the store failed when it was last asked. `oldest_seconds` is for how long the oldest event has
    waited in the spool, `drop_seconds` how long ago an event was lost; None if there is none.
    `unnoted_losses`: no `audit.loss` event tells of all that was lost yet. `sequencing` is None if
    this log leaves that to others.
    """

    waiting: int
    waiting_bytes: int
    is_spooling: bool
    counts: Mapping[str, int]
    batch_events: Histogram
    commit_seconds: Histogram
    store_error: str | None
    spool_directory: Path
    pending: int
    pending_bytes: int
    oldest_seconds: float | None
    damaged: int
    quarantined: int
    drop_seconds: float | None
    unnoted_losses: bool
    sequencing: Sequencing | None

    def figures(self) -> dict[str, dict[str, Any]]:
        """The figures as `stats` has them, ready for JSON."""
        return {
            "queue": {
                "waiting": self.waiting,
                "waiting_bytes": self.waiting_bytes,
                "spooling": self.is_spooling,
            },
            "recorded": dict(self.counts),
            "last_commit": {
                "seconds": self.commit_seconds.last,
                "events": self.batch_events.last,
            },
            "commit_seconds": self.commit_seconds.summary(),
            "batch_events": self.batch_events.summary(),
            "spool": {
                "directory": str(self.spool_directory),
                "pending": self.pending,
                "pending_bytes": self.pending_bytes,
                "oldest_seconds": self.oldest_seconds,
                "damaged": self.damaged,
                "quarantined": self.quarantined,
            },
            "sequencing": {} if self.sequencing is None else self.sequencing.figures(),
        }


def health_of(now: Snapshot | None, *, spool_age: float, drop_age: float, lag_age: float) -> Health:
    """What the figures say of a log's health; see `AuditLog.health`."""
    if now is None:
        return Health("failing", ("the log is not open in this process",))
    failures = tuple(_failures(now, spool_age, drop_age))
    problems = (*failures, *_troubles(now, lag_age))
    return Health("failing" if failures else "degraded" if problems else "ok", problems)


def _failures(now: Snapshot, spool_age: float, drop_age: float) -> Iterator[str]:
    """What can't wait: events are lost, or stuck."""
    if now.unnoted_losses:
        yield "events are lost, and no audit.loss event says so yet"
    elif now.drop_seconds is not None and now.drop_seconds < drop_age:
        yield (
            f"events are lost, the last one {now.drop_seconds:.0f} s ago; "
            "audit.loss events say of whom and why"
        )
    if now.oldest_seconds is not None and now.oldest_seconds > spool_age:
        yield f"an event has waited in the spool for {now.oldest_seconds:.0f} s"


def _troubles(now: Snapshot, lag_age: float) -> Iterator[str]:
    """What somebody should look into, though nothing is lost."""
    if now.is_spooling or now.pending:
        yield f"events go to the spool; waiting there: {now.pending:,}"
    if now.store_error is not None:
        yield f"the store fails: {now.store_error}"
    if now.quarantined:
        yield f"events in quarantine, {now.spool_directory / QUARANTINE}: {now.quarantined:,}"
    if now.damaged:
        yield f"records of the spool that were damaged or removed: {now.damaged:,}"
    if now.sequencing is not None:
        yield from _troubles_of_sequencing(now.sequencing, lag_age)


def _troubles_of_sequencing(now: Sequencing, lag_age: float) -> Iterator[str]:
    if now.lag_seconds > lag_age:
        held_up = f", held up by {'; '.join(now.culprits)}" if now.culprits else ""
        yield f"an event has waited for its leaf for {now.lag_seconds:.0f} s{held_up}"
    if now.error is not None:
        yield f"sequencing fails: {now.error}"
    for anchor, reason in now.unanchored.items():
        yield f"checkpoints do not reach {anchor}: {reason}"
