"""Exports that are made in the background: their files, and how far each is.

Each lies in the directory as two files, named by its id: its state, as JSON, and what was exported.
Every worker that is given the same directory answers for all of them; one makes them. A state is
written anew at least every few seconds while its export is at work, so that one whose worker died
can be told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final
from weakref import WeakValueDictionary

import msgspec

from muniment.formats import COLUMNS, cells_of, csv_of, jsonl_of
from muniment.http.access import Caller, Holder
from muniment.http.api.wire import Export, NewExport
from muniment.http.problems import Refusal, refusal_of
from muniment.log import AuditLog
from muniment.searching import Pace

_logger = logging.getLogger(__name__)
_AT_ONCE: Final = 2
_KEPT: Final = 20
_MOST_UNFINISHED: Final = 5
_LIFETIME: Final = 3600.0
_SWEPT_EVERY: Final = 300.0
_PAGE: Final = 1_000
_PAGE_SECONDS: Final = 2.0
"""How long a page may take to be found, for others to have a turn."""
_TOLD_EVERY: Final = 0.5
_BEAT: Final = 5.0
_DEAD_AFTER: Final = 60.0
SUFFIX_OF: Final = {"jsonl": ".jsonl", "csv": ".csv", "evidence": ".evidence.jsonl"}
_UNFINISHED: Final = ("waiting", "running")


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What the directory knows of an export: whose it is, and what its owner is told.

    `of_tenant` is the one that the caller is bound to, None for all.
    """

    caller_id: str
    of_tenant: str | None = None
    export: Export


class Exports:
    """Makes exports, two at a time and one for each tenant, and keeps them for an hour.

    Those that are bound to one tenant share its room, and take none from others.
    """

    def __init__(self, log: AuditLog, directory: str | None) -> None:
        self._log = log
        self._given = directory
        self._directory: Path | None = None
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._turn_of: WeakValueDictionary[Holder, asyncio.Lock] = WeakValueDictionary()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._removals: dict[str, asyncio.TimerHandle] = {}
        self._sweeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to delete what is too old, also what those left who had the directory before."""
        if self._given is not None:
            self._sweeping = asyncio.create_task(self._sweep())

    def begin(self, caller: Caller, wanted: NewExport, filters: dict[str, Any]) -> Export:
        """Begin an export of what the filters ask for; it waits for its turn.

        Raises a 429 if as many of its tenant's are unfinished as may be.
        """
        self._make_room(caller)
        export = Export(
            export_id=str(uuid.uuid4()),
            format=wanted.format,
            tenant_id=filters.get("tenant_id"),
            filters=wanted.filters,
            state="waiting",
            created_at=datetime.now(UTC),
        )
        job = _Job(
            self.place, _State(caller_id=_id_of(caller), of_tenant=caller.tenant_id, export=export)
        )
        job.begin()
        turn = self._turn_of.setdefault(caller.holder, asyncio.Lock())
        task = asyncio.create_task(self._make(job, filters, turn))
        self._tasks[export.export_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(export.export_id, None))
        return export

    def of(self, caller: Caller) -> list[Export]:
        """The exports of a caller, newest first."""
        found = [state.export for state in self._all() if _is_of(caller, state)]
        return sorted(found, key=lambda export: export.created_at, reverse=True)

    def find(self, caller: Caller, export_id: str) -> Export:
        """An export of a caller. Raises a 404 if there is none, or it is another one's."""
        with suppress(ValueError):
            state = self._read(self.place / f"{uuid.UUID(export_id)}.json")
            if state is not None and _is_of(caller, state):
                return state.export
        raise _missing(export_id)

    def file_of(self, export: Export) -> Path:
        """Where an export's file is, or will be."""
        return self.place / (export.export_id + SUFFIX_OF[export.format])

    def open_file(self, export: Export) -> BinaryIO:
        """An export's file, to be read and closed: once it is open, it may be deleted.

        Raises a 409 unless the export is done, a 404 if it was deleted just now.
        """
        if export.state != "done":
            raise Refusal(
                HTTPStatus.CONFLICT, "not-done", f"The export is {export.state}; there is no file."
            )
        try:
            return self.file_of(export).open("rb")
        except FileNotFoundError:
            raise _missing(export.export_id) from None

    async def delete(self, export: Export) -> None:
        """Delete an export, and end it if it is at work: also in another worker, which will see."""
        self._remove(export)
        task = self._tasks.get(export.export_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """End what is at work, and delete all files that nobody else answers for."""
        tasks = list(self._tasks.values())
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for removal in self._removals.values():
            removal.cancel()
        if self._given is None and self._directory is not None:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    # --- making one

    async def _make(self, job: _Job, filters: dict[str, Any], turn: asyncio.Lock) -> None:
        """Make an export, and say what became of it."""
        path = self.file_of(job.export)
        beats = asyncio.create_task(job.beat())
        try:
            async with turn, self._turn:
                job.tell(state="running")
                write = self._evidence if job.export.format == "evidence" else self._events
                events = await write(job, path, filters)
            job.finish(state="done", events=events, bytes=path.stat().st_size)
        except (asyncio.CancelledError, _Unwanted):
            path.unlink(missing_ok=True)
            job.finish(state="cancelled")
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                _logger.exception("an export failed")
            path.unlink(missing_ok=True)
            job.finish(state="failed", problem=refusal.problem)
        finally:
            beats.cancel()
        later = asyncio.get_running_loop().call_later(_LIFETIME, self._remove, job.export)
        self._removals[job.export.export_id] = later

    async def _evidence(self, job: _Job, path: Path, filters: dict[str, Any]) -> int:
        prefix = f"{job.export.export_id}."
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.place) as private:
            made = Path(private) / path.name  # which anybody may read
            done = await self._log.export_evidence(made, progress=job.progress, **filters)
            made.chmod(0o600)
            made.replace(path)
        return done.events + done.erased

    async def _events(self, job: _Job, path: Path, filters: dict[str, Any]) -> int:
        """Write events, page by page, oldest first."""
        is_csv = job.export.format == "csv"
        events, cursor = 0, None
        pace = Pace(_PAGE)
        with _created(path) as file:
            if is_csv:
                file.write(csv_of([COLUMNS]))
            while True:
                page = await self._log.search(
                    **filters,
                    order="oldest",
                    limit=pace.size,
                    cursor=cursor,
                    budget=_PAGE_SECONDS,
                )
                rows = csv_of(map(cells_of, page.events)) if is_csv else jsonl_of(page.events)
                await asyncio.to_thread(file.write, rows)
                pace.came(len(page.events), len(rows))
                events += len(page.events)
                cursor = page.next_cursor
                job.progress(events, events if cursor is None else None)
                if cursor is None:
                    return events

    # --- the directory

    @property
    def place(self) -> Path:
        """The directory, made when it is first asked for."""
        if self._directory is None:
            if self._given is None:
                self._directory = Path(tempfile.mkdtemp(prefix="muniment-exports-"))
            else:
                self._directory = Path(self._given)
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._directory

    def _all(self) -> list[_State]:
        found = (self._read(path) for path in self.place.glob("*.json"))
        return [state for state in found if state is not None]

    def _read(self, path: Path) -> _State | None:
        """The state in a file; None if it is gone, or its time is up.

        What a power cut left of one, or what is none of ours, says nothing.
        """
        try:
            state = _decode(path.read_bytes())
            age = time.time() - path.stat().st_mtime
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        export = state.export
        if export.expires_at is not None and export.expires_at < datetime.now(UTC):
            self._remove(export)
            return None
        if export.state in _UNFINISHED and age > _DEAD_AFTER:
            if age > _LIFETIME:
                self._remove(export)
                return None
            return msgspec.structs.replace(state, export=_abandoned(export))
        return state

    def _remove(self, export: Export) -> None:
        self._removals.pop(export.export_id, None)
        (self.place / f"{export.export_id}.json").unlink(missing_ok=True)
        self.file_of(export).unlink(missing_ok=True)

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._sweep_once)
            except OSError:
                _logger.exception("old exports can't be deleted")
            await asyncio.sleep(_SWEPT_EVERY)

    def _sweep_once(self) -> None:
        """Delete what is too old, and files that no state tells of."""
        self._all()
        for path in self.place.iterdir():
            export_id = path.name.lstrip(".").partition(".")[0]
            if _is_uuid(export_id) and not (self.place / f"{export_id}.json").exists():
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime <= _LIFETIME:
                        continue
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()

    def _make_room(self, caller: Caller) -> None:
        """Delete the oldest finished exports beyond those that are kept of the caller's tenant."""
        every = sorted(
            (s.export for s in self._all() if s.of_tenant == caller.tenant_id),
            key=lambda export: export.created_at,
        )
        unfinished = sum(export.state in _UNFINISHED for export in every)
        if unfinished >= min(_MOST_UNFINISHED, _KEPT):
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                "You have as many unfinished exports as may be. Try again later.",
                headers={"Retry-After": "10"},
            )
        finished = [export for export in every if export.state not in _UNFINISHED]
        for export in finished[: max(0, len(every) - _KEPT + 1)]:
            self._remove(export)


class _Unwanted(Exception):
    """The export was deleted, here or in another worker."""


class _Job:
    """An export at work, and its state's file."""

    def __init__(self, place: Path, state: _State) -> None:
        self._path = place / f"{state.export.export_id}.json"
        self._state = state
        self._told = 0.0

    @property
    def export(self) -> Export:
        """What its owner is told."""
        return self._state.export

    def begin(self) -> None:
        """Put the state there for the first time."""
        self._write()

    def tell(self, **changes: Any) -> None:
        """Change the state. Raises `_Unwanted` if the export was deleted."""
        export = msgspec.structs.replace(self.export, **changes)
        self._state = msgspec.structs.replace(self._state, export=export)
        if not self._path.exists():
            raise _Unwanted
        self._write()

    def finish(self, **changes: Any) -> None:
        """Say what became of it."""
        with suppress(_Unwanted):
            self.tell(expires_at=datetime.now(UTC) + timedelta(seconds=_LIFETIME), **changes)

    def progress(self, done: int, total: int | None) -> None:
        """Say how far it is, if that was not said a moment ago. Raises as `tell` does."""
        if time.monotonic() - self._told >= _TOLD_EVERY or done == total:
            self.tell(done=done, total=total)

    async def beat(self) -> None:
        """Show, until cancelled, that somebody is at it, while it waits for its turn too."""
        with suppress(_Unwanted):
            while True:
                await asyncio.sleep(_BEAT)
                self.tell()

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        with open(new, "wb", opener=_private) as file:
            file.write(msgspec.json.encode(self._state))
        new.replace(self._path)
        self._told = time.monotonic()


_decode = msgspec.json.Decoder(_State).decode


def _is_uuid(text: str) -> bool:
    with suppress(ValueError):
        return str(uuid.UUID(text)) == text
    return False


def _is_of(caller: Caller, state: _State) -> bool:
    return state.caller_id == _id_of(caller) and caller.tenant_id in {None, state.export.tenant_id}


def _id_of(caller: Caller) -> str:
    """What a host calls a caller may be another one's token's id."""
    return f"{caller.kind}:{caller.id}"


def _missing(export_id: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "not-found", f"There is no export {export_id!r:.80}.")


def _abandoned(export: Export) -> Export:
    gone = Refusal(500, "internal", "The worker that made this export has ended; ask for it again.")
    return msgspec.structs.replace(export, state="failed", problem=gone.problem)


def _created(path: Path) -> BinaryIO:
    return open(path, "xb", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
