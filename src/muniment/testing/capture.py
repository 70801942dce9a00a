"""Sees what an application records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from muniment.canonical import decode
from muniment.event import Event
from muniment.sealing import Draft, Sealer
from muniment.stores.base import Sealed


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """Collects every event that is recorded in this process within the block, as it is stored.

    `with capture_events() as events:` covers all logs and the `write_*` functions. The events are
    recorded as well; they are captured when they are sealed, before they are durable, and are in
    the order of sealing.
    """
    captured: list[Event] = []
    seal = Sealer._sealed  # noqa: SLF001 - the one place that every event passes

    draft_call = Sealer.draft_call

    def sealed_at_once(sealer: Sealer, action: str, given: dict[str, Any]) -> Sealed:
        draft = draft_call(sealer, action, given)
        return draft.seal() if isinstance(draft, Draft) else draft

    def observed(sealer: Sealer, event: Event, body: bytes, **how: Any) -> Sealed:
        captured.append(decode(body))
        return seal(sealer, event, body, **how)

    with (
        mock.patch.object(Sealer, "_sealed", observed),
        mock.patch.object(Sealer, "draft_call", sealed_at_once),
    ):
        yield captured
