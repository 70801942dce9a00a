"""A process that records for many tenants and sequences, as others do beside it.

Usage: python -m tests.proofs.writing_process SETTINGS     (JSON; see `many_writers.written`)

Writes one line "TENANT EVENT_ID" for each event that was acknowledged, into a file of its own. On
PostgreSQL some events are recorded in long transactions, of which every third is rolled back. At
the end it waits until its spool is empty.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

import asyncpg

from muniment import AuditLog, Event, Receipt
from tests.proofs.trails import LOG_KEY

TENANTS: Final = tuple(f"tenant-{n}" for n in range(10))
_TASKS: Final = 6
_LIST: Final = 40
_LONGEST_TRANSACTION: Final = 0.4
_PATIENCE: Final = 100.0
_PAUSE: Final = 0.02


class Writer:
    """Records in one log until the time is up, from several tasks."""

    def __init__(self, log: AuditLog, file: TextIO, settings: dict[str, Any]) -> None:
        self._log = log
        self._file = file
        self._url: str = settings["url"]
        self._until: float = time.monotonic() + settings["seconds"]
        self._random = random.Random(settings["seed"])  # noqa: S311 - it only has to vary

    async def run(self) -> None:
        """Record one by one, in lists, and in transactions."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_TASKS):
                group.create_task(self._one_by_one())
            group.create_task(self._in_lists())
            if not self._url.startswith("sqlite"):
                group.create_task(self._in_transactions())
        async with asyncio.timeout(_PATIENCE):
            while (await self._log.stats())["queue"]["spooling"]:  # noqa: ASYNC110 - as a user would
                await asyncio.sleep(_PAUSE)

    async def _one_by_one(self) -> None:
        while self._goes_on():
            self._note(await self._log.record(self._event()))

    async def _in_lists(self) -> None:
        while self._goes_on():
            events = [self._event() for _ in range(_LIST)]
            for receipt in await self._log.record_many(events):
                self._note(receipt)

    async def _in_transactions(self) -> None:
        connection = await asyncpg.connect(self._url)
        count = 0
        while self._goes_on():
            transaction = connection.transaction()
            await transaction.start()
            receipts = [await self._log.record_in(connection, self._event()) for _ in range(3)]
            await asyncio.sleep(self._random.uniform(0, _LONGEST_TRANSACTION))
            count += 1
            if count % 3:
                await transaction.commit()
                for receipt in receipts:
                    self._note(receipt)
            else:
                await transaction.rollback()
        await connection.close()

    def _goes_on(self) -> bool:
        return time.monotonic() < self._until

    def _event(self) -> Event:
        details = {"n": self._random.randrange(1_000_000), "note": "x" * self._random.randrange(80)}
        return Event(
            action="invoice.create", tenant_id=self._random.choice(TENANTS), details=details
        )

    def _note(self, receipt: Receipt) -> None:
        self._file.write(f"{receipt.tenant_id} {receipt.event_id}\n")


async def main(settings: dict[str, Any]) -> None:
    """Write with a log that sequences and signs, as many do at once."""
    with Path(settings["acknowledged"]).open("w", encoding="utf-8") as file:  # noqa: ASYNC230 - small
        async with AuditLog.open(
            settings["url"],
            signing_keys=[LOG_KEY],
            spool_dir=settings["spool"],
            sequence_interval=settings["interval"],
        ) as log:
            await Writer(log, file, settings).run()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
