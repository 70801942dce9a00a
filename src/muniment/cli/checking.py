"""The command that checks everything: fsck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from muniment.cli.app import App, open_existing, run
from muniment.cli.known_keys import KEY_OR_FILE, known_keys
from muniment.cli.progress import Progress
from muniment.errors import MunimentError
from muniment.visible import visible

# What checks signatures is imported where it is needed: most commands do without.
if TYPE_CHECKING:
    from muniment.fsck import Finding, Summary

_SHOWN: Final = 20


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment fsck\n"
    "  muniment fsck --tenant acme --key @audit.pub\n"
    "  muniment fsck --resume fsck.state"
)
@click.option("--tenant", "tenant_id", metavar="ID", help="Of this tenant only.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar=KEY_OR_FILE,
    help="The log's public key: signatures are verified too. May be repeated.",
)
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep in this file how far it has come, and go on there if it is there already; it is "
    "removed at the end.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=_SHOWN,
    show_default=True,
    metavar="N",
    help="How many differences to show of each tenant; all are counted.",
)
@click.pass_obj
def fsck(
    app: App, /, *, tenant_id: str | None, keys: Sequence[str], resume: Path | None, limit: int
) -> None:
    """Check everything: events, leaves, trees and checkpoints.

    Nothing is changed, and the log may be recorded in meanwhile. Each difference is a line on
    stderr: the tenant, what it is, and the event. The exit code is 1 if there was one. What was
    altered and signed again with the true key is not seen here: that is for `muniment watch`.
    """
    known = known_keys(keys, option="--key")
    shown: Counter[str] = Counter()

    def tell(finding: Finding) -> None:
        shown[finding.tenant_id] += 1
        if shown[finding.tenant_id] <= limit:
            line = f"{finding.tenant_id}: {finding.kind}: {finding.message}"
            click.echo(visible(" ".join(line.split("\n"))), err=True)

    async def work() -> Summary:
        from muniment.fsck import fsck as check

        async with open_existing(app) as store:
            with Progress("Checking", unit="events and leaves", beside_output=True) as progress:
                return await check(
                    store,
                    tenant_id=tenant_id,
                    keys=known,
                    tell=tell,
                    progress=lambda count, done, total: progress.advance(
                        count, done=done, total=total
                    ),
                    resume=resume,
                )

    try:
        summary = run(work())
    except KeyboardInterrupt:
        if resume is not None:
            click.echo(f"interrupted; the same command goes on from {resume}", err=True)
        raise
    if tenant_id is not None and not (summary.tenants or summary.events or summary.pending):
        raise MunimentError(f"tenant {tenant_id} has no event, or may not be seen by this role")
    for tenant, found in sorted(shown.items()):
        if found > limit:
            click.echo(f"{visible(tenant)}: and {found - limit:,} more", err=True)
    _tell(summary, has_keys=bool(known))
    if summary.findings:
        raise MunimentError(f"the log is not what it was: {_count(summary.findings, 'difference')}")
    click.echo("all agree")


def _tell(summary: Summary, *, has_keys: bool) -> None:
    signed = _count(summary.signatures, "signature") if has_keys else "no signatures (no --key)"
    click.echo(
        f"looked at: {_count(summary.tenants, 'tree')}, {_count(summary.events, 'event')} "
        f"({summary.erased:,} erased), {summary.pending:,} without a leaf yet, "
        f"{_count(summary.checkpoints, 'checkpoint')}, {signed}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
