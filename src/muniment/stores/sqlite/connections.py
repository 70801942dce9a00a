"""The connections of a SQLite store: one for each of its threads, none of them open across a fork.

SQLite counts its locks for the whole process. A child that inherits a connection believes in locks
that only its parent holds: when it opens the file again it takes none, and once the parent has
ended, another process removes the write-ahead log under it, with all that the child commits. So
they are closed before a fork, and opened again when they are needed.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_WAL_PAUSE: Final = 0.01
_INTERRUPTED: Final = 1.0
_logger = logging.getLogger("muniment.sqlite")


class Connections:
    """Connections to the file at `path`; each waits `busy_timeout` seconds for other writers."""

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._path = path.absolute()
        self._busy_timeout = busy_timeout
        self._watches_forks = False
        self._start_empty()

    def _start_empty(self) -> None:
        self._idle = threading.Condition()
        self._in_use = 0
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []

    @contextmanager
    def lent(self, *, read_only: bool) -> Iterator[sqlite3.Connection]:
        """The connection of this thread, to work with. A fork waits until it is given back."""
        with self._idle:
            self._watch_forks()
            self._in_use += 1
        try:
            yield self._of_this_thread(read_only=read_only)
        finally:
            with self._idle:
                self._in_use -= 1
                self._idle.notify_all()

    def close(self) -> None:
        """Close all of them, once they are given back. They are opened again when they are needed.

        A connection that is closed while a thread works with it ends the process, so one that is
        not given back in time, not even when it is interrupted, stays open.
        """
        with self._idle:
            if self._become_idle():
                self._local = threading.local()
                while self._open:
                    self._open.pop().close()

    def _of_this_thread(self, *, read_only: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                _enter_wal(connection, self._busy_timeout)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA cache_size = -65536")
                if read_only:
                    connection.execute("PRAGMA query_only = ON")
            except BaseException:
                connection.close()  # the next call opens another
                raise
            self._open.append(connection)
            self._local.connection = connection
        return connection

    # --- forks

    def _watch_forks(self) -> None:
        if self._watches_forks:
            return
        self._watches_forks = True
        reference = weakref.ref(self)
        held: list[Connections] = []

        def before() -> None:
            connections = reference()
            if connections is not None:
                held.append(connections)
                connections._stand_still()  # noqa: SLF001

        def after_in_parent() -> None:
            if held:
                held.pop()._idle.release()  # noqa: SLF001

        def after_in_child() -> None:
            if held:
                held.pop()._begin_anew()  # noqa: SLF001

        os.register_at_fork(
            before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
        )

    def _stand_still(self) -> None:
        """Close all connections, and let nobody open one until the lock is released."""
        self._idle.acquire()
        if self._become_idle():
            self.close()
        else:
            _logger.error("%s is in use during a fork: the child must not use it", self._path)

    def _become_idle(self) -> bool:
        """Wait until none is lent, for a while; whether it is so then. The lock is held."""
        if self._wait_until_idle(self._busy_timeout):
            return True
        for connection in self._open:
            connection.interrupt()
        return self._wait_until_idle(_INTERRUPTED)

    def _wait_until_idle(self, seconds: float) -> bool:
        return self._idle.wait_for(lambda: not self._in_use, seconds)

    def _begin_anew(self) -> None:
        self._left = self._open  # not to be closed here, not even by being forgotten
        self._start_empty()


def _enter_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switch to WAL; several that open a new file at once fail at it without waiting."""
    give_up = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > give_up:
                raise
            time.sleep(_WAL_PAUSE)
        else:
            return
