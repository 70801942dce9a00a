"""Records one event for a block of code: how it ended, how long it took, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from muniment.event import Outcome, Target

_MOST_OF_AN_ERROR = 1000


class ActionScope:
    """What the block may say about the event that is recorded when it ends."""

    def __init__(self, details: dict[str, Any]) -> None:
        self.outcome: Outcome | str | None = None
        self.reason: str | None = None
        self.targets: Sequence[Target] | None = None
        self.details = details


@asynccontextmanager
async def scope(
    record: Callable[[str, dict[str, Any]], Awaitable[object]],
    action: str,
    fields: dict[str, Any],
) -> AsyncIterator[ActionScope]:
    """Run the block, then `record(action, fields)` with what came of it."""
    running = ActionScope(dict(fields.get("details", {})))
    started = time.monotonic()
    try:
        yield running
    except BaseException as error:
        running.details.setdefault("error", type(error).__name__)
        denied = isinstance(error, PermissionError)
        running.outcome = running.outcome or (Outcome.DENIED if denied else Outcome.FAILURE)
        running.reason = running.reason or _message(error)
        await record(action, _finished(running, started, fields))
        raise
    running.outcome = running.outcome or Outcome.SUCCESS
    await record(action, _finished(running, started, fields))


def _finished(running: ActionScope, started: float, fields: dict[str, Any]) -> dict[str, Any]:
    running.details.setdefault("duration_ms", round((time.monotonic() - started) * 1000, 3))
    said = {"outcome": running.outcome, "reason": running.reason, "targets": running.targets}
    return {
        **fields,
        **{name: value for name, value in said.items() if value is not None},
        "details": running.details,
    }


def _message(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error itself
        text = type(error).__name__
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MOST_OF_AN_ERROR else f"{text[:_MOST_OF_AN_ERROR]}… (cut)"
