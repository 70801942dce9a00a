"""The commands that import events from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from muniment.cli.app import App, open_log, run
from muniment.cli.progress import Progress
from muniment.errors import InvalidConfig
from muniment.log import AuditLog
from muniment.visible import visible

# What imports needs the database's toolkit, and is imported where it is used: other commands, such
# as `muniment verify`, do without.
if TYPE_CHECKING:
    from muniment.importers import Importer, ImportReport

_TENANT: Final = click.option(
    "--tenant", "tenant_id", metavar="ID", help="Record all under this tenant."
)


@click.group("import")
def import_() -> None:
    """Record events from elsewhere, with their own times.

    Importing the same source again adds nothing, so an import that was interrupted may simply be
    run again. What can't be recorded is told of, with its place, and the rest goes on; the exit
    code is 1 then.
    """


@import_.command(
    epilog="\b\nFor example:\n"
    "  muniment --url sqlite:///a.db search --all --format jsonl |\n"
    "    muniment --url postgresql://me@host/audit import jsonl -"
)
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@_TENANT
@click.pass_obj
def jsonl(app: App, *, sources: Sequence[str], tenant_id: str | None) -> None:
    """Import muniment's own lines ('-' is stdin).

    These are what `search --format jsonl` prints. They keep their event_ids and all that their
    source supplied.
    """
    from muniment.importers import JsonlImporter

    importers = [JsonlImporter(source, tenant_id=tenant_id) for source in sources]
    run(_import(app, importers))


@import_.command(
    epilog="\b\nFor example:\n"
    "  muniment import cloudtrail 123456789012_CloudTrail_*.json.gz --tenant acme"
)
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@_TENANT
@click.pass_obj
def cloudtrail(app: App, *, sources: Sequence[str], tenant_id: str | None) -> None:
    """Import AWS CloudTrail records, plain or gzip ('-' is stdin).

    One record a line, or in {"Records": [...]}. The tenant is --tenant, else the account.
    """
    from muniment.importers import CloudTrailImporter

    importers = [CloudTrailImporter(source, tenant_id=tenant_id) for source in sources]
    run(_import(app, importers))


@import_.command(
    "audit-logs",
    epilog="\b\nFor example:\n"
    "  muniment import audit-logs postgresql://me@host/app --table app.audit_logs \\\n"
    "    --state import.state",
)
@click.argument("source", metavar="URL")
@click.option(
    "--table",
    default="audit_logs",
    show_default=True,
    metavar="[SCHEMA.]NAME",
    help="Where the rows are.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the place here while it runs, and go on from it if it was interrupted.",
)
@_TENANT
@click.pass_obj
def audit_logs(
    app: App,
    *,
    source: str,
    table: str,
    state: Path | None,
    tenant_id: str | None,
) -> None:
    """Import a table of audit logs in SQLite or PostgreSQL.

    Its columns are id, action, details, agent_id, user_id and created_at; tenant_id and ip_address
    are used if there are any. The table is only read. The tenant is --tenant, else the column's,
    else the one in details, else 'system'.
    """
    from muniment.importers import AuditLogsImporter

    importer = AuditLogsImporter(source, table=table, tenant_id=tenant_id)
    place = None if state is None else _Place(state, importer.name, tenant_id)
    if place is not None:
        importer.resume(place.read())
    run(_import(app, [importer], place=place))


async def _import(app: App, importers: Sequence[Importer], *, place: _Place | None = None) -> None:
    from muniment.importers import ImportReport

    refused = 0
    async with open_log(app) as log:
        for importer in importers:
            report = ImportReport()
            try:
                await _import_one(log, importer, report, place)
            except (Exception, asyncio.CancelledError):
                _say(importer.name, report, finished=False)
                raise
            _say(importer.name, report, finished=True)
            refused += report.refused
        if place is not None:
            place.forget()
    if refused:
        raise click.exceptions.Exit(1)


async def _import_one(
    log: AuditLog, importer: Importer, report: ImportReport, place: _Place | None
) -> None:
    from muniment.importers import import_events

    counted = 0
    with Progress(f"Importing {importer.name}", unit="events", beside_output=True) as progress:

        def on_batch(so_far: ImportReport) -> None:
            nonlocal counted
            source = importer.progress()
            progress.advance(so_far.read - counted, done=source.done, total=source.total)
            counted = so_far.read
            if place is not None and so_far.position is not None:
                place.write(so_far.position)

        await import_events(log, importer, on_batch=on_batch, report=report)


def _say(name: str, report: ImportReport, *, finished: bool) -> None:
    for refusal in report.refusals:
        click.echo(visible(f"refused {refusal.where}: {refusal.problem}"), err=True)
    if report.refused > len(report.refusals):
        click.echo(f"refused {report.refused - len(report.refusals):,} more", err=True)
    parts = [f"{report.new:,} new", f"{report.already:,} recorded before"]
    if report.refused:
        parts.append(f"{report.refused:,} refused")
    if report.spooled:
        parts.append(f"{report.spooled:,} in the local spool, since the store can't be reached")
    summary = f"{visible(name)}: {report.read:,} events ({', '.join(parts)})"
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
