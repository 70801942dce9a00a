"""The commands about the store itself: stats, db status, db upgrade, db recount."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from muniment.cli.app import App, check_exists, open_existing, open_log, run
from muniment.cli.progress import Progress
from muniment.cli.render import output
from muniment.stores import open_store, without_password
from muniment.stores.base import SchemaStatus
from muniment.stores.trees import Lag
from muniment.visible import visible


@click.command()
@click.option("--format", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def stats(app: App, *, format: str) -> None:
    """Show how much is stored, what waits in the spool, and what is wrong.

    The exit code is 1 if the store can't be reached.
    """
    figures = run(_stats(app))
    if format == "json":
        click.echo(json.dumps(figures, ensure_ascii=False))
    else:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for part, names in figures.items():
            for name, value in names.items():
                table.add_row(
                    Text(f"{part} {name.replace('_', ' ')}"), Text(visible(_shown(value)))
                )
        output().print(table)
    if "unavailable" in figures["store"]:
        raise click.exceptions.Exit(1)


async def _stats(app: App) -> dict[str, dict[str, Any]]:
    async with open_log(app, for_reading=True) as log:
        figures = await log.stats()
        lag = await log.store.trees.lag() if "unavailable" not in figures["store"] else Lag()
        # The other figures are of this very process, which records nothing.
        return {
            "store": {"url": without_password(log.store.url), **figures["store"]},
            "sequencing": {"lag_seconds": lag.seconds, "culprits": lag.culprits},
            "spool": figures["spool"],
            "health": msgspec.structs.asdict(log.health()),
        }


def _shown(value: object) -> str:
    if type(value) is int:
        return f"{value:,}"
    if isinstance(value, tuple):
        return "; ".join(value) or "none"
    return "none" if value is None else str(value)


@click.group()
def db() -> None:
    """Look after the database's schema and counts."""


@db.command()
@click.pass_obj
def status(app: App) -> None:
    """Show which schema the database has.

    The exit code is 0 if it is up to date, and 1 if it needs `muniment db upgrade`.
    """
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
    """Bring the schema up to date.

    A database that is up to date stays as it is. PostgreSQL needs a role that may create schemas.
    """
    store = open_store(app.url)

    async def bring_up() -> SchemaStatus:
        try:
            return await store.upgrade()
        finally:
            await store.close()

    click.echo(f"schema {run(bring_up()).current}: up to date")


@db.command()
@click.pass_obj
def recount(app: App) -> None:
    """Throw the counts away that histograms are made of, and make them again.

    Nothing else depends on them. Counting is whole meanwhile, if slow. PostgreSQL needs a member of
    muniment_keeper, or who installed the schema.
    """
    click.echo(f"counted {run(_recount(app)):,} events")


async def _recount(app: App) -> int:
    async with open_existing(app) as store:
        await store.counts.forget()
        total = (await store.stats())["events"]
        counted = 0
        with Progress("counting", unit="events") as progress:
            while done := await store.counts.count_pending(store.counts.step):
                counted += done
                progress.advance(done, done=counted, total=total)
    return counted


def _verdict(found: SchemaStatus) -> str:
    if found.is_current:
        return "up to date"
    if found.known:
        return "run `muniment db upgrade`"
    return "the database is newer; install a newer muniment"
