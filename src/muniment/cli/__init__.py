"""The command line, `muniment --url URL COMMAND`: each command is in one of these modules."""

from __future__ import annotations

import click

from muniment.cli.app import App, MunimentGroup
from muniment.cli.checking import fsck
from muniment.cli.database import db, stats
from muniment.cli.demo import demo
from muniment.cli.exporting import export
from muniment.cli.imports import import_
from muniment.cli.keys import key_, keygen
from muniment.cli.proving import checkpoint, prove, sequence
from muniment.cli.recording import record
from muniment.cli.searching import search, show, tail
from muniment.cli.serving import serve
from muniment.cli.tokens import tokens
from muniment.cli.verifying import verify
from muniment.cli.witnessing import watch, witness
from muniment.config import DEFAULT_URL

__all__ = ["main"]


@click.group(
    cls=MunimentGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nFor example:\n"
    "  muniment demo\n"
    "  muniment record login --tenant acme --actor user:u1 --outcome success\n"
    "  muniment search --tenant acme --since 24h",
)
@click.version_option(package_name="muniment", message="%(prog)s %(version)s")
@click.option(
    "--url",
    envvar="MUNIMENT_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Where events are kept: sqlite:///file.db or postgresql://user@host/database.",
)
@click.option("--verbose", is_flag=True, help="Show what the library logs, on stderr.")
@click.pass_context
def main(ctx: click.Context, *, url: str, verbose: bool) -> None:
    """The audit trail: record who did what, and find it again."""
    given = ctx.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    ctx.obj = App(url=url, url_given=given, verbose=verbose)


_COMMANDS = (
    checkpoint,
    db,
    demo,
    export,
    fsck,
    import_,
    key_,
    keygen,
    prove,
    record,
    search,
    sequence,
    serve,
    show,
    stats,
    tail,
    tokens,
    verify,
    watch,
    witness,
)

for _command in _COMMANDS:
    main.add_command(_command)
