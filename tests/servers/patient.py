"""`muniment` with time for everything: `python -m tests.servers.patient` in place of it.

What it says is then what is so, and not what a busy machine had time for: no store is late, no
search and no count is cut short.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod

from muniment import AuditLog
from muniment.cli import main
from muniment.http.viewer import live_page, trail
from tests.scripted import LONG


def give_time(put: Callable[[object, str, object], None]) -> None:
    """Put long limits in the place of short ones, by what is called like `setattr`."""
    put(AuditLog, "__init__", partialmethod(AuditLog.__init__, deadline=LONG))
    put(AuditLog, "count", partialmethod(AuditLog.count, budget=LONG))
    put(trail, "_BUDGET", LONG)
    put(trail, "_SEARCH_BUDGET", LONG)
    put(live_page, "_BUDGET", LONG)


if __name__ == "__main__":
    give_time(setattr)
    main(prog_name="muniment")
