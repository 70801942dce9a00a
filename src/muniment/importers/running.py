"""Records what an importer reads, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, cast

import msgspec

from muniment.errors import Conflict, EventRefused, InvalidEvent, MunimentError
from muniment.event import Event
from muniment.importers.base import Importer, Item
from muniment.log import AuditLog
from muniment.receipts import Receipt

BATCH: Final = 1000
_MANY_PROBLEMS: Final = 100


class Problem(msgspec.Struct, frozen=True):
    """An item that could not be recorded, and why."""

    where: str
    problem: str


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did so far.

    `recorded` events are durable: `already` of them had been stored before, `spooled` of them wait
    in the local spool because the store can't be reached. `skipped` counts what could not be
    recorded; the first hundred of these stand in `problems`.
    """

    recorded: int = 0
    already: int = 0
    spooled: int = 0
    skipped: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list)
    position: str | None = None

    @property
    def new(self) -> int:
        """How many events were not stored before."""
        return self.recorded - self.already


async def import_events(
    log: AuditLog,
    importer: Importer,
    *,
    skip_bad: bool = False,
    on_batch: Callable[[ImportReport], None] | None = None,
    report: ImportReport | None = None,
) -> ImportReport:
    """Record everything that `importer` reads, durably batch by batch, and get the report.

    Stops at the first item that can't be recorded, with its place in the error, once all before it
    are; with `skip_bad` it counts such items and goes on. Running it again records nothing twice.
    `on_batch` is called with the report after each batch; a `report` given is added to.
    """
    report = report or ImportReport()
    batch: list[Item] = []
    async with aclosing(importer.items()) as items:
        async for item in items:
            batch.append(item)
            if len(batch) >= BATCH or (item.problem is not None and not skip_bad):
                await _record(log, batch, report, skip_bad=skip_bad)
                batch = []
                if on_batch is not None:
                    on_batch(report)
        await _record(log, batch, report, skip_bad=skip_bad)
    if on_batch is not None:
        on_batch(report)
    return report


async def _record(
    log: AuditLog, batch: Sequence[Item], report: ImportReport, *, skip_bad: bool
) -> None:
    # Under "log" one bad event does not keep the others of its batch from being told apart.
    events = [item.event for item in batch if item.event is not None]
    receipts = iter(await log.record_many(events, on_error="log"))
    failed: list[tuple[str, MunimentError]] = []
    for item in batch:
        if item.event is None:
            failed.append((item.where, cast("InvalidEvent", item.problem)))
            continue
        receipt = next(receipts)
        if receipt.durable_in == "lost":
            try:
                receipt = await _again(log, item.event)
            except (InvalidEvent, Conflict, EventRefused) as error:
                failed.append((item.where, error))
                continue
        report.recorded += 1
        report.already += receipt.already
        report.spooled += receipt.durable_in == "spool"
    if failed and not skip_bad:
        raise _located(*failed[0])
    report.skipped += len(failed)
    room = _MANY_PROBLEMS - len(report.problems)
    report.problems += [Problem(where, str(error)) for where, error in failed[:room]]
    if batch and batch[-1].position is not None:
        report.position = batch[-1].position


async def _again(log: AuditLog, event: Event) -> Receipt:
    """Record an event by itself, to get the error that kept it from being recorded."""
    return await log.record(event, on_error="raise")


def _located(where: str, error: MunimentError) -> MunimentError:
    if isinstance(error, InvalidEvent):
        return InvalidEvent(f"{where}: {error.field}", error.problem)
    error.add_note(f"at {where}")
    return error
