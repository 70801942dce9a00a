"""The commands that find events: search, show, tail."""

from __future__ import annotations

import sys
from typing import Any

import click

from muniment.cli.app import App, open_log, run
from muniment.cli.filters import filter_options, filters_of, query_argument
from muniment.cli.formats import FORMATS, write_bytes, writer_of
from muniment.cli.progress import Progress
from muniment.cli.render import details_of, line_of, messages, output, sheet_of
from muniment.event import Event
from muniment.formats import body_of
from muniment.merkle import leaf_hash

_PAGE = 1000


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment search --tenant acme --action 'role_*' --outcome denied --since 24h\n"
    "  muniment search 'tenant:acme action:role_* outcome:denied since:24h'\n"
    "  muniment search --user u1 --all --format jsonl > u1.jsonl"
)
@query_argument
@filter_options
@click.option("--newest/--oldest", "newest", default=True, help="What comes first.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="COUNT",
    help="At most so many events.",
)
@click.option("--all", "everything", is_flag=True, help="Everything found, without a limit.")
@click.option("--cursor", metavar="CURSOR", help="Go on behind an earlier page of this search.")
@click.option(
    "--ids",
    "with_ids",
    is_flag=True,
    help="One line an event, with its event_id, instead of the table.",
)
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="jsonl: the stored bodies, byte for byte, one a line; json: one object of events and "
    "next_cursor; csv: for spreadsheets (a cell that begins like a formula gets an apostrophe).",
)
@click.pass_obj
def search(
    app: App,
    /,
    *,
    query: tuple[str, ...],
    newest: bool,
    limit: int,
    everything: bool,
    cursor: str | None,
    with_ids: bool,
    format: str,
    **given: Any,
) -> None:
    """Find events: all of the conditions that are given hold.

    A condition is a key, a colon and a value, such as action:role_* or outcome:denied; the keys
    are the options below. What has no key is text that the event holds.
    """
    run(
        _search(
            app,
            filters_of(given, query),
            order="newest" if newest else "oldest",
            limit=None if everything else limit,
            cursor=cursor,
            writer=writer_of(format, with_ids=with_ids),
        )
    )


async def _search(
    app: App,
    filters: dict[str, Any],
    *,
    order: Any,
    limit: int | None,
    cursor: str | None,
    writer: Any,
) -> None:
    left = limit
    async with open_log(app, for_reading=True) as log:
        with Progress("Searching", unit="events") as progress:
            while True:
                size = _PAGE if left is None else min(left, _PAGE)
                page = await log.search(**filters, order=order, limit=size, cursor=cursor)
                writer.write(page.events)
                progress.advance(len(page.events))
                cursor = page.next_cursor
                left = None if left is None else left - len(page.events)
                if cursor is None or left == 0:
                    break
        writer.finish(cursor)


@click.command(epilog="\b\nFor example:\n  muniment show 01956366-8510-7000-8b24-ea88ced69780")
@click.argument("event_id")
@click.option("--tenant", "tenant_id", metavar="ID", help="Of this tenant only.")
@click.option("--format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def show(app: App, /, *, event_id: str, tenant_id: str | None, format: str) -> None:
    """Show one event, whole. With --format json it is the stored body, byte for byte."""
    run(_show(app, event_id, tenant_id, as_table=format == "table"))


async def _show(app: App, event_id: str, tenant_id: str | None, *, as_table: bool) -> None:
    async with open_log(app, for_reading=True) as log:
        event = await log.get(event_id, tenant_id=tenant_id)
        body = (await log.body(event_id, tenant_id=tenant_id)).encode()
        if not as_table:
            write_bytes(body + b"\n")
            return
        console = output()
        info = log.catalogue.describe(event.action)
        console.print(sheet_of(event, info, leaf_hash(body)))
        if event.details:
            console.print("details", style="dim")
            for line in details_of(event):
                console.print(line, soft_wrap=True)


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment tail --tenant acme --category authentication\n"
    "  muniment tail --outcome denied --format jsonl"
)
@query_argument
@filter_options
@click.option(
    "--after", metavar="EVENT_ID", help="Begin behind this event; else with the next one."
)
@click.option("--follow/--no-follow", default=True, help="Wait for more once all is shown.")
@click.option(
    "--format", type=click.Choice(["table", "jsonl", "csv"]), default="table", show_default=True
)
@click.pass_obj
def tail(
    app: App,
    /,
    *,
    query: tuple[str, ...],
    after: str | None,
    follow: bool,
    format: str,
    **given: Any,
) -> None:
    """Show events as they are recorded, in that order, until Ctrl-C."""
    if after is None and not follow:
        raise click.UsageError("--no-follow shows what follows an event: name it with --after")
    try:
        run(_tail(app, filters_of(given, query), after=after, follow=follow, format=format))
    except KeyboardInterrupt:
        return


async def _tail(
    app: App, filters: dict[str, Any], *, after: str | None, follow: bool, format: str
) -> None:
    writer = writer_of(format)

    def write(event: Event) -> None:
        if format == "table":
            output().print(line_of(event), soft_wrap=True)
        elif format == "jsonl":
            write_bytes(body_of(event) + b"\n")
        else:
            writer.write([event])

    async with open_log(app, for_reading=True) as log:
        if follow and format == "table" and sys.stderr.isatty():
            messages().print("Waiting for events; Ctrl-C ends it.", style="dim")
        async for event in log.tail(**filters, after=after, follow=follow):
            write(event)
