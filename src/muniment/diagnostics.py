"""Diagnostics through the standard `logging`, rate-limited: a long outage is not a long log."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

_EVERY: Final = 60.0


class Diagnostics:
    """Logs each kind of trouble when it first occurs, then at most once a minute with a count."""

    def __init__(self, name: str = "muniment", clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logging.getLogger(name)
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def report(self, level: int, kind: str, message: str, *values: object) -> None:
        """Log `message % values` unless the same `kind` was logged within the last minute."""
        now = self._clock()
        last = self._last.get(kind)
        if last is not None and now - last < _EVERY:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return
        self._last[kind] = now
        held_back = self._held_back.pop(kind, 0)
        if held_back:
            message += f" (and {held_back} more times since the last such message)"
        self._log(level, message, *values)

    def info(self, message: str, *values: object) -> None:
        """Log at INFO, every time."""
        self._log(logging.INFO, message, *values)

    def tell_rest(self) -> None:
        """Log how many messages of each kind were held back since the last one was logged."""
        held_back, self._held_back = self._held_back, {}
        for kind, count in held_back.items():
            message = "held back since the last message of the kind %r: %d more"
            self._log(logging.WARNING, message, kind, count)

    def _log(self, level: int, message: str, *values: object) -> None:
        try:
            self._logger.log(level, message, *values)
        except Exception:  # noqa: BLE001 - a handler that raises must not end recording
            if logging.raiseExceptions:
                traceback.print_exc()
