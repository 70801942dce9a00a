"""A process of several tasks that record at once, one event or several at a time, out of time.

Usage: python -m tests.finding.ordering_process URL NAME TASKS EVENTS
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from random import Random

from muniment import AuditLog, Event

_MONTH = timedelta(days=30)


async def main(url: str, name: str, tasks: int, events: int) -> None:
    """Number each task's events in the order in which it records them."""
    random = Random(name)  # noqa: S311 - a load, not a secret
    now = datetime.now(UTC)
    async with AuditLog.open(url) as log:

        async def record(task: str) -> None:
            numbers = list(range(events))
            while numbers:
                several = [
                    Event(
                        action=task,
                        tenant_id="acme",
                        occurred_at=now - random.random() * _MONTH,
                        details={"n": numbers.pop(0)},
                    )
                    for _ in range(min(len(numbers), random.choice((1, 1, 2, 5))))
                ]
                if len(several) == 1:
                    await log.record(several[0])
                else:
                    await log.record_many(several)

        await asyncio.gather(*(record(f"{name}.{n}") for n in range(tasks)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
