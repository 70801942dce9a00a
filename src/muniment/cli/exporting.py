"""The command `export`: evidence, for whoever is to verify it without the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from muniment.cli.app import App, open_log, run
from muniment.cli.filters import filter_options, filters_of
from muniment.cli.progress import Progress
from muniment.cli.render import messages
from muniment.errors import MunimentError
from muniment.exporting import Exported

_STEP = 2_000
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment export --tenant acme --since 30d --evidence acme.jsonl\n"
    "  muniment verify acme.jsonl --key @audit.pub"
)
@filter_options
@click.option(
    "--evidence", "path", metavar="FILE", type=_FILE, required=True, help="Write the file here."
)
@click.option(
    "--old-checkpoint",
    metavar="FILE",
    type=_FILE,
    help="Prove too that nothing of this earlier checkpoint was changed.",
)
@click.pass_obj
def export(app: App, /, *, path: Path, old_checkpoint: Path | None, **given: Any) -> None:
    """Write a tenant's events and what proves them into one file.

    It holds the events in the order of recording, and the hashes that lead from them to the
    newest signed checkpoint. `muniment verify`, or other people's tools, check it offline.
    """
    if not given.get("tenant_id"):
        raise click.UsageError("--tenant is needed: evidence is of one tenant's trail")
    old = None if old_checkpoint is None else _note_in(old_checkpoint)
    done = run(_export(app, path, old, filters_of(given)))
    erased = f", {done.erased:,} of them erased" if done.erased else ""
    messages().print(
        f"{done.events + done.erased:,} events{erased}, of {done.tree_size:,} under the "
        f"checkpoint, are in {path}",
        markup=False,
        highlight=False,
    )
    if done.unpublished:
        messages().print(f"not published yet, and not in it: {done.unpublished:,} newer leaves")


async def _export(app: App, path: Path, old: str | None, filters: dict[str, Any]) -> Exported:
    async with open_log(app, for_reading=True) as log:
        with Progress("exporting", unit="leaves", beside_output=True) as shown:
            before = 0

            def progress(done: int, total: int) -> None:
                nonlocal before
                if done - before >= _STEP or done == total:
                    # It is told twice the leaves.
                    shown.advance((done - before) // 2, done=done, total=total)
                    before = done

            return await log.export_evidence(path, old_checkpoint=old, progress=progress, **filters)


def _note_in(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise MunimentError(f"--old-checkpoint: {path}: can't be read: {error}") from None
