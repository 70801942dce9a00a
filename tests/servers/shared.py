"""The PostgreSQL that is given by URL: whoever tests with it has it alone for a while.

Transaction ids belong to a whole server. A transaction of anybody, were it only a new database
being made, holds up the index and the trees in all databases there, and many tests say to the
event how far those are.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.servers.postgres import URL_VARIABLE, Postgres, PostgresMissing, find_binaries


class SharedPostgres(Postgres):
    """That server. Processes of tests take turns, from any checkout and any machine."""

    def __init__(self, url: str) -> None:
        super().__init__(url, find_binaries())
        asked = self.psql("SELECT 1")
        if asked.returncode:
            raise PostgresMissing(f"{URL_VARIABLE}: {asked.stderr.strip()}")
        self._turn: ExitStack | None = None
        self._has_been_used = False

    def before(self, item: pytest.Item, following: pytest.Item | None) -> None:
        """Wait for our turn if this test needs it, or what is dropped after the last one does."""
        if self._turn is None and (_needs(item) or (following is None and self._has_been_used)):
            turn = ExitStack()
            turn.enter_context(self.alone())
            self._turn, self._has_been_used = turn, True

    def after(self, item: pytest.Item, following: pytest.Item | None) -> None:
        """Let others have theirs once a file is through, with all that it set up."""
        if self._turn and (following is None or following.path != item.path):
            self._turn.close()
            self._turn = None

    def create_database(self, template: str | None = None) -> str:
        """The name of a new database, as long as it is our turn."""
        if self._turn is None:
            raise RuntimeError("a test that uses PostgreSQL says so: in its name, or a fixture's")
        return super().create_database(template)


def _needs(item: pytest.Item) -> bool:
    """Whether its name, its parameters or its fixtures speak of PostgreSQL."""
    told = (item.nodeid, *getattr(item, "fixturenames", ()))
    return any("postgres" in name.casefold() for name in told)
