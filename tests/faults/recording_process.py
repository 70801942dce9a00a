"""A process that records as fast as it can, and tells each event_id once `record` has returned.

Usage: python -m tests.faults.recording_process URL ROUND TASKS     Ends when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from muniment import AuditLog, Event


async def main(url: str, name: str, tasks: int) -> None:
    """Record from many tasks at once. What is written to the pipe outlives this process."""
    numbers = count()
    async with AuditLog.open(url) as log:

        async def record() -> None:
            for n in numbers:
                event = Event(action="tick", tenant_id="acme", details={"round": name, "n": n})
                receipt = await log.record(event)
                os.write(1, f"{receipt.event_id} {receipt.durable_in}\n".encode())

        await asyncio.gather(*(record() for _ in range(tasks)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
