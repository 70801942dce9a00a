"""A port that a server of the tests can listen on, now and again after it was stopped."""

from __future__ import annotations

import socket
import sys
from typing import Final, Self

_SHARED: Final = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)


class HeldPort:
    """A free port of 127.0.0.1, nobody else's until it is let go; use it in a `with`.

    Bound and not listened on, it is given to no connection and to no socket that asks for any port,
    while a server that is told to can listen there. Other systems than Linux don't let it, so that
    there the port is only one that was free.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        for option in _SHARED:
            self._held.setsockopt(socket.SOL_SOCKET, option, 1)
        self._held.bind(("127.0.0.1", 0))
        self.number: int = self._held.getsockname()[1]
        if not sys.platform.startswith("linux"):
            self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let it go."""
        self._held.close()
