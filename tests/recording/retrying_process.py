"""A process that records one event under an idempotency key, and tells what became of it.

Usage: python -m tests.recording.retrying_process URL KEY NOW     NOW is its clock's time.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

from muniment import Actor, AuditLog
from tests.scripted import LONG


async def main(url: str, key: str, now: datetime) -> None:
    """Write the receipt to the standard output."""
    async with AuditLog.open(url, clock=lambda: now, deadline=LONG) as log:
        receipt = await log.record(
            "invoice.pay", tenant_id="acme", actor=Actor.user("u1"), idempotency_key=key
        )
    told = (receipt.event_id, receipt.leaf_hash.hex(), receipt.durable_in, receipt.already)
    sys.stdout.write(" ".join(map(str, told)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3])))
