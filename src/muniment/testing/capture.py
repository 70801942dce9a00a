"""Sees what an application records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from muniment.canonical import decode
from muniment.event import Event
from muniment.sealing import Sealer
from muniment.stores.base import Sealed


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """Collects every event that is recorded in this process within the block, as it is stored.

    `with capture_events() as events:` covers all logs and the `write_*` functions. The events are
    recorded as well; they are captured when they are sealed, before they are durable, and are in
    the order of sealing.
    """
    captured: list[Event] = []
    seal = Sealer._seal  # noqa: SLF001 - the one place that every event passes

    def observed(sealer: Sealer, event: Event, whole: Event, *, may_repeat: bool) -> Sealed:
        sealed = seal(sealer, event, whole, may_repeat=may_repeat)
        captured.append(decode(sealed.body))
        return sealed

    with mock.patch.object(Sealer, "_seal", observed):
        yield captured
