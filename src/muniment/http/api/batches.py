"""A batch of events, recorded in pieces while it arrives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from muniment.errors import InvalidEvent
from muniment.http.api.given import event_of
from muniment.http.problems import AGAIN, Problem, Refusal, refusal_of
from muniment.intake import STORED, Placement
from muniment.log import AuditLog
from muniment.receipts import Receipt, receipt_for
from muniment.stores.base import Sealed

PIECE: Final = 2_000
"""So many events are committed together."""
_PIECE_BYTES: Final = 2 * 2**20
_AT_ONCE: Final = 200
"""So many are made ready before other requests have their turn."""
_MOST_PROBLEMS: Final = 100
_TOO_LONG: Final = InvalidEvent("event", "is over the bytes that one event may have")
_logger: Final = logging.getLogger("muniment.http")


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: `recorded` events are new, `already` were there before.

    Both are in the store; `spooled` ones are durable beside it, and follow. `receipts` are there if
    they were asked for: one for each event, at its place in the batch; null for a refused one.
    """

    recorded: int
    already: int
    spooled: int
    receipts: list[Receipt | None] | UnsetType = UNSET


class BatchProblem(Problem, frozen=True, kw_only=True):
    """What is wrong with a batch, and what became of the rest of it, which is durable.

    `refused` events are not; of one with a 500 that isn't sure. `problems` tells of up to 100 of
    those, in the order of the batch, each with the `index` of its event. `whole`: whether all of
    the batch was read.
    """

    recorded: int
    already: int
    spooled: int
    refused: int
    whole: bool
    problems: list[Problem]
    receipts: list[Receipt | None] | UnsetType = UNSET


class _Piece:
    """Events to be committed together, each with its place in the batch."""

    def __init__(self) -> None:
        self.events: list[Sealed] = []
        self.indexes: list[int] = []
        self.size = 0

    def add(self, index: int, event: Sealed) -> None:
        self.events.append(event)
        self.indexes.append(index)
        self.size += len(event.body)


class Batch:
    """Takes the events of a batch, in their order, and keeps count of what becomes of them.

    A piece is made ready while the one before it commits; no more than these two are held.
    """

    def __init__(
        self, log: AuditLog, tenant_id: str | None, *, most: int, with_receipts: bool
    ) -> None:
        """`tenant_id` is whose events may be in it, None for all; `most` is how many."""
        self._log = log
        self._tenant_id = tenant_id
        self._most = most
        self._seal = log.sealer.seal_decoded
        self._salts = log.sealer.salts()
        self._taken = 0
        self._ready = _Piece()
        self._committing = _Piece()
        self._commit: asyncio.Task[list[Placement]] | None = None
        self._recorded = self._already = self._spooled = self._refused = 0
        self._problems: list[Problem] = []
        self._statuses: set[int] = set()
        self._receipts: dict[int, Receipt] | None = {} if with_receipts else None

    async def take(self, found: Sequence[bytes | None]) -> None:
        """Record these events; None is one that was too long.

        Raises a 413 for more than a batch may hold, and those before are recorded.
        """
        for raw in found:
            if self._taken == self._most:
                raise Refusal(413, "too-many", f"A batch has at most {self._most:,} events.")
            self._make_ready(raw)
            self._taken += 1
            if self._taken % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if len(self._ready.events) >= PIECE or self._ready.size >= _PIECE_BYTES:
                await self._record()

    async def finish(self) -> None:
        """Return once all that was taken is durable, or refused."""
        await self._record()
        await self._settle()

    def recorded(self) -> Recorded:
        """What became of a batch that nothing is wrong with."""
        return Recorded(
            recorded=self._recorded,
            already=self._already,
            spooled=self._spooled,
            receipts=self._listed(),
        )

    def refusal(self, broken_off: Refusal | None = None) -> Refusal | None:
        """What is wrong with the batch, None if nothing is; it may have been broken off.

        Its status is that of what broke it off, else the one that all refused events share, else
        422.
        """
        if broken_off is None and not self._refused:
            return None
        status = self._statuses.pop() if len(self._statuses) == 1 else 422
        refusal = broken_off or Refusal(
            status,
            "batch",
            f"{self._refused:,} of {self._taken:,} events were refused, the others are recorded.",
            headers=AGAIN if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
        )
        told = refusal.problem
        refusal.problem = BatchProblem(
            type=told.type,
            title=told.title,
            status=told.status,
            detail=told.detail,
            recorded=self._recorded,
            already=self._already,
            spooled=self._spooled,
            refused=self._refused,
            whole=broken_off is None,
            problems=sorted(self._problems, key=_index_of),
            receipts=self._listed(),
        )
        return refusal

    def _make_ready(self, raw: bytes | None) -> None:
        if raw is None:
            self._refuse(self._taken, _TOO_LONG)
            return
        try:
            self._ready.add(self._taken, self._seal(event_of(raw, self._tenant_id), self._salts))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are recorded
            self._refuse(self._taken, error)

    async def _record(self) -> None:
        """Begin to commit what is ready, once what was before it is committed."""
        await self._settle()
        if self._ready.events:
            self._committing, self._ready = self._ready, _Piece()
            self._commit = asyncio.create_task(self._log.record_sealed(self._committing.events))

    async def _settle(self) -> None:
        commit, self._commit = self._commit, None
        if commit is None:
            return
        piece = self._committing
        try:
            placements = await asyncio.shield(commit)
        except Exception as error:  # noqa: BLE001 - whatever it is, what was recorded is told
            for index in piece.indexes:
                self._refuse(index, error)
            return
        if self._receipts is None and (new := placements.count(STORED)) == len(placements):
            self._recorded += new
            return
        for index, event, placed in zip(piece.indexes, piece.events, placements, strict=True):
            if placed.error is not None:
                self._refuse(index, placed.error)
                continue
            if placed.already is not None:
                self._already += 1
            elif placed.place == "spool":
                self._spooled += 1
            else:
                self._recorded += 1
            if self._receipts is not None:
                self._receipts[index] = receipt_for(event, placed)

    def _listed(self) -> list[Receipt | None] | UnsetType:
        if self._receipts is None:
            return UNSET
        return [self._receipts.get(index) for index in range(self._taken)]

    def _refuse(self, index: int, error: Exception) -> None:
        problem = refusal_of(error).problem
        is_ours = problem.status == HTTPStatus.INTERNAL_SERVER_ERROR
        if is_ours and problem.status not in self._statuses:  # once is enough for a batch
            _logger.error("event %d of a batch", index, exc_info=error)
        self._refused += 1
        self._statuses.add(problem.status)
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(msgspec.structs.replace(problem, index=index))


def _index_of(problem: Problem) -> int:
    return -1 if problem.index is None else problem.index
