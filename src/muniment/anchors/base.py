"""The contract of an anchor: where checkpoints go that the database's owner can't rewrite."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from muniment.errors import AnchorError, MunimentError
from muniment.stores.trees import Published

DEFAULT_TIMEOUT: Final = 10.0
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0

Prove = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""`prove(old_size, new_size)` gives a consistency proof of the tenant's tree: 32 bytes a hash."""


class Unreachable(AnchorError):
    """The place did not answer, or can't take anything now: no fault of this checkpoint."""


class Anchor(ABC):
    """A place for checkpoints. It belongs to one event loop.

    One that can't be reached is left alone for a second, then for twice as long each time, up to a
    minute; meanwhile `anchor` raises at once, so that ten thousand tenants don't wait for it each.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        """For messages: the place, without what is secret in its URL."""
        self.timeout = timeout
        """The seconds that one checkpoint may take."""
        self._clock = clock
        self._pause = 0.0
        self._not_before = 0.0

    async def anchor(self, checkpoint: Published, prove: Prove) -> str | None:
        """Put the checkpoint there; returns signature lines for its note, None if there are none.

        It is durable there on return. The same checkpoint again changes nothing and succeeds.
        Raises `AnchorError` if it could not be put there: within `timeout` seconds, or at all.
        """
        if self._clock() < self._not_before:
            raise Unreachable(f"{self.name}: can't be reached; it is tried again in a while")
        try:
            async with asyncio.timeout(self.timeout):
                lines = await self._put(checkpoint, prove)
        except TimeoutError:
            self._leave_alone()
            raise Unreachable(f"{self.name}: no answer within {self.timeout:g} s") from None
        except Unreachable:
            self._leave_alone()
            raise
        except AnchorError:
            self._answered()
            raise
        except (MunimentError, OSError) as error:
            raise AnchorError(f"{self.name}: {error}") from error
        self._answered()
        return lines

    @abstractmethod
    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        """What `anchor` promises, however long it takes; it may be cancelled at any await.

        Raises `Unreachable` for what is no fault of this checkpoint, so that it may help to wait.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections and threads. It is not used again."""

    def _answered(self) -> None:
        self._pause = self._not_before = 0.0

    def _leave_alone(self) -> None:
        # Those that failed at the same time count as one.
        if self._clock() >= self._not_before:
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._not_before = self._clock() + self._pause
