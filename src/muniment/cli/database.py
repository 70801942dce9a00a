"""The commands about the store itself: stats, db status, db upgrade."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from muniment.cli.app import App, check_exists, open_log, run
from muniment.cli.render import output
from muniment.cli.visible import visible
from muniment.stores import open_store
from muniment.stores.base import SchemaStatus


@click.command()
@click.option("--format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def stats(app: App, *, format: str) -> None:
    """Show figures of the store, the queue and the spool."""
    figures = run(_stats(app))
    if format == "json":
        click.echo(json.dumps(figures, default=str))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _flat(figures):
        shown = f"{value:,}" if type(value) is int else str(value)
        table.add_row(Text(visible(name)), Text(visible(shown)))
    output().print(table)


async def _stats(app: App) -> Mapping[str, Any]:
    async with open_log(app, for_reading=True) as log:
        return await log.stats()


def _flat(figures: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@click.group()
def db() -> None:
    """Look after the database's schema."""


@db.command()
@click.pass_obj
def status(app: App) -> None:
    """Show which schema the database has. Exit code 1 if it needs `muniment db upgrade`."""
    store = open_store(app.url)
    check_exists(store)

    async def look() -> SchemaStatus:
        try:
            return await store.schema_status()
        finally:
            await store.close()

    found = run(look())
    click.echo(f"schema {found.current or 'none'}, wanted {found.wanted}: {_verdict(found)}")
    if not found.is_current:
        raise click.exceptions.Exit(1)


@db.command()
@click.pass_obj
def upgrade(app: App) -> None:
    """Bring the schema up to what this version wants; again does no harm."""
    store = open_store(app.url)

    async def bring_up() -> SchemaStatus:
        try:
            return await store.upgrade()
        finally:
            await store.close()

    click.echo(f"schema {run(bring_up()).current}: up to date")


def _verdict(found: SchemaStatus) -> str:
    if found.is_current:
        return "up to date"
    if found.known:
        return "run `muniment db upgrade`"
    return "the database is newer; install a newer muniment"
