"""Records what an importer reads, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from muniment.errors import Conflict, EventRefused, InvalidEvent
from muniment.importers.base import Importer, Item
from muniment.log import AuditLog

BATCH: Final = 1000
_MANY_REFUSALS: Final = 100
_REFUSALS: Final = (Conflict, EventRefused, InvalidEvent)


class Refusal(msgspec.Struct, frozen=True):
    """An item that can't be recorded, and why."""

    where: str
    problem: str


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did so far.

    Of the items that were `read`, `new` events were not stored before and `already` were; both are
    durable, `spooled` of them in the local spool because the store can't be reached. `refused`
    counts what can't be recorded; the first hundred of these stand in `refusals`. A later run may
    go on behind `position`.
    """

    read: int = 0
    new: int = 0
    already: int = 0
    spooled: int = 0
    refused: int = 0
    refusals: list[Refusal] = msgspec.field(default_factory=list)
    position: str | None = None


async def import_events(
    log: AuditLog,
    importer: Importer,
    *,
    on_batch: Callable[[ImportReport], None] | None = None,
    report: ImportReport | None = None,
) -> ImportReport:
    """Record everything that `importer` reads, durably batch by batch, and get the report.

    An item that can't be recorded is told of there, and does not hold up the rest. Running it
    again records nothing twice. `on_batch` is called with the report after each batch; a `report`
    given is added to. Raises `MunimentError` if the source can't be read, and `NotDurable`.
    """
    report = report or ImportReport()
    batch: list[Item] = []
    async with aclosing(importer.items()) as items:
        async for item in items:
            batch.append(item)
            if len(batch) >= BATCH:
                await _record(log, batch, report)
                batch = []
                if on_batch is not None:
                    on_batch(report)
        await _record(log, batch, report)
    if on_batch is not None:
        on_batch(report)
    return report


async def _record(log: AuditLog, batch: Sequence[Item], report: ImportReport) -> None:
    # One by one, so that each has an answer of its own; at once, so that they share a commit.
    events = [item.event for item in batch if item.event is not None]
    recording = (log.record(event, on_error="raise") for event in events)
    answers = iter(await asyncio.gather(*recording, return_exceptions=True))
    for item in batch:
        answer = item.problem if item.event is None else next(answers)
        if isinstance(answer, _REFUSALS):
            report.refused += 1
            if len(report.refusals) < _MANY_REFUSALS:
                report.refusals.append(Refusal(item.where, str(answer)))
        elif isinstance(answer, BaseException):
            raise answer
        elif answer is not None:
            report.new += not answer.already
            report.already += answer.already
            report.spooled += answer.durable_in == "spool"
        report.read += 1
    if batch and batch[-1].position is not None:
        report.position = batch[-1].position
