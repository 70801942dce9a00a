"""The commands that import events from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from muniment.cli.app import App, open_log, run
from muniment.cli.progress import Progress
from muniment.cli.visible import visible
from muniment.errors import InvalidConfig
from muniment.importers import (
    KINDS,
    AuditLogsImporter,
    Importer,
    ImportReport,
    import_events,
)

_F = TypeVar("_F", bound=Callable[..., Any])
_SHOWN_PROBLEMS = 20


@click.group("import")
def import_() -> None:
    """Record events from elsewhere, with their own times.

    Importing the same source again adds nothing, so an import that was interrupted may simply be
    run again.
    """


def _common_options(command: _F) -> _F:
    for option in (
        click.option(
            "--skip-bad",
            is_flag=True,
            help="Count what can't be recorded and go on; else stop there.",
        ),
        click.option("--tenant", "tenant_id", metavar="ID", help="Record all under this tenant."),
    ):
        command = option(command)
    return command


@import_.command()
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@_common_options
@click.pass_obj
def jsonl(app: App, *, sources: Sequence[str], tenant_id: str | None, skip_bad: bool) -> None:
    """Import muniment's own lines, as `search --format jsonl` prints them ('-' is stdin).

    They keep their event_ids.
    """
    importers = [KINDS["jsonl"](source, tenant_id=tenant_id) for source in sources]
    run(_import(app, importers, skip_bad=skip_bad))


@import_.command()
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@_common_options
@click.pass_obj
def cloudtrail(app: App, *, sources: Sequence[str], tenant_id: str | None, skip_bad: bool) -> None:
    """Import AWS CloudTrail records, plain or gzip ('-' is stdin).

    One record a line, or in {"Records": [...]}. The tenant is --tenant, else the account.
    """
    importers = [KINDS["cloudtrail"](source, tenant_id=tenant_id) for source in sources]
    run(_import(app, importers, skip_bad=skip_bad))


@import_.command("audit-logs")
@click.argument("source", metavar="URL")
@click.option("--table", default="audit_logs", show_default=True, metavar="[SCHEMA.]NAME")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the place here while it runs, and go on from it if it was interrupted.",
)
@_common_options
@click.pass_obj
def audit_logs(
    app: App,
    *,
    source: str,
    table: str,
    state: Path | None,
    tenant_id: str | None,
    skip_bad: bool,
) -> None:
    """Import a table (id, action, details, agent_id, user_id, created_at) in SQLite or PostgreSQL.

    Columns tenant_id and ip_address are used if there are any. The table is only read. The tenant
    is --tenant, else the column's, else the one in details, else 'system'.
    """
    importer = AuditLogsImporter(source, table=table, tenant_id=tenant_id)
    place = None if state is None else _Place(state, importer.name, tenant_id)
    if place is not None:
        importer.resume(place.read())
    run(_import(app, [importer], skip_bad=skip_bad, place=place))


async def _import(
    app: App, importers: Sequence[Importer], *, skip_bad: bool, place: _Place | None = None
) -> None:
    async with open_log(app) as log:
        for importer in importers:
            report = ImportReport()
            try:
                await _import_one(log, importer, report, skip_bad=skip_bad, place=place)
            except (Exception, asyncio.CancelledError):
                _say(importer.name, report, finished=False)
                raise
            _say(importer.name, report, finished=True)
        if place is not None:
            place.forget()


async def _import_one(
    log: Any, importer: Importer, report: ImportReport, *, skip_bad: bool, place: _Place | None
) -> None:
    counted = 0
    with Progress(f"Importing {importer.name}", unit="events", beside_output=True) as progress:

        def on_batch(so_far: ImportReport) -> None:
            nonlocal counted
            read = importer.progress()
            progress.advance(so_far.recorded - counted, done=read.done, total=read.total)
            counted = so_far.recorded
            if place is not None and so_far.position is not None:
                place.write(so_far.position)

        await import_events(log, importer, skip_bad=skip_bad, on_batch=on_batch, report=report)


def _say(name: str, report: ImportReport, *, finished: bool) -> None:
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        click.echo(visible(f"skipped {problem.where}: {problem.problem}"), err=True)
    if report.skipped > _SHOWN_PROBLEMS:
        click.echo(f"skipped {report.skipped - _SHOWN_PROBLEMS:,} more", err=True)
    parts = [f"{report.new:,} new", f"{report.already:,} recorded before"]
    if report.skipped:
        parts.append(f"{report.skipped:,} skipped")
    if report.spooled:
        parts.append(f"{report.spooled:,} in the local spool, since the store can't be reached")
    summary = f"{visible(name)}: {report.recorded:,} events ({', '.join(parts)})"
    if finished:
        click.echo(summary)
    else:
        click.echo(f"Stopped. {summary}. It is safe to run this again.", err=True)


class _State(msgspec.Struct, frozen=True):
    source: str
    tenant_id: str | None
    position: str


class _Place:
    """The file that remembers how far an import has come; it is gone once the import is done."""

    def __init__(self, path: Path, source: str, tenant_id: str | None) -> None:
        self._path = path
        self._source = source
        self._tenant_id = tenant_id

    def read(self) -> str | None:
        """The position to go on behind, or None to begin. Raises `InvalidConfig`."""
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise InvalidConfig(
                f"--state: {self._path} holds no place of an import: {error}"
            ) from None
        if (state.source, state.tenant_id) != (self._source, self._tenant_id):
            raise InvalidConfig(
                f"--state: {self._path} is of another import, {state.source}; name another file"
            )
        return state.position

    def write(self, position: str) -> None:
        """Remember the position, whole or not at all."""
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.write_bytes(msgspec.json.encode(_State(self._source, self._tenant_id, position)))
        fresh.replace(self._path)

    def forget(self) -> None:
        """The import is done: the next one begins at the beginning."""
        self._path.unlink(missing_ok=True)
