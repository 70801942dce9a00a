"""The commands about who may come in over HTTP: tokens create, list, revoke, rotate."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from rich.table import Table
from rich.text import Text

from muniment.cli.app import App, open_existing, open_log, run
from muniment.cli.render import moment, output
from muniment.event import Actor
from muniment.stores.credentials import Credential
from muniment.visible import visible

if TYPE_CHECKING:
    from muniment.http.auth.secrets import Issued

# What makes tokens is imported where it is needed: most commands do without the service.

_SCOPES: Final = ("write", "read", "export", "admin")
_DURATION: Final = re.compile(r"(\d{1,5})\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_CREATED: Final = """\
The line on stdout is the token. Nothing keeps it: who loses it makes another one.
It is {id}, for {tenant}, {until}.
"""
_ROTATED: Final = """\
The line on stdout is the new token, {id}: nothing keeps it. The old one goes on until
{until} UTC.
"""


def _duration(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no length of time; give one such as 90d or 24h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.group()
def tokens() -> None:
    """Look after the tokens with which the service is called.

    On PostgreSQL it takes a member of muniment_service who may record events too.
    """


@tokens.command(
    epilog="\b\nFor example:\n"
    "  muniment tokens create --name billing --scope write --tenant acme\n"
    "  muniment tokens create --name portal --scope admin --all-tenants > token"
)
@click.option("--name", required=True, metavar="NAME", help="What will show it.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    required=True,
    help="What it is good for; may be given again. None includes another one.",
)
@click.option("--tenant", "tenant_id", metavar="ID", help="The one tenant it is good for.")
@click.option("--all-tenants", is_flag=True, help="It is good for every tenant.")
@click.option(
    "--expires",
    callback=_duration,
    metavar="TIME",
    help="How long it is good: 90d, 24h. Unless given, until it is revoked.",
)
@click.pass_obj
def create(
    app: App,
    *,
    name: str,
    scopes: Sequence[str],
    tenant_id: str | None,
    all_tenants: bool,
    expires: timedelta | None,
) -> None:
    """Make a token, and print it, once.

    That it was made is recorded, and so is who made it; the token itself is kept nowhere.
    """
    if all_tenants == (tenant_id is not None):
        raise click.UsageError("give either --tenant ID or --all-tenants")
    _needs_http()
    from muniment.http.access import Scope
    from muniment.http.auth.tokens import create_token

    async def make() -> Issued:
        async with open_log(app) as log:
            return await create_token(
                log,
                name=name,
                scopes=[Scope(scope) for scope in scopes],
                tenant_id=tenant_id,
                lifetime=expires,
                actor=_operator(),
            )

    issued = run(make())
    click.echo(issued.secret)
    ends_at = issued.credential.expires_at
    said = _CREATED.format(
        id=issued.credential.id,
        tenant="all tenants" if tenant_id is None else f"tenant {visible(tenant_id)}",
        until="until it is revoked" if ends_at is None else f"until {moment(ends_at)} UTC",
    )
    click.echo(said, err=True, nl=False)


@tokens.command("list")
@click.option("--all", "show_all", is_flag=True, help="Those that are over too.")
@click.pass_obj
def list_(app: App, *, show_all: bool) -> None:
    """Show the tokens there are, the oldest first; no secret is among it."""

    async def find() -> Sequence[Credential]:
        async with open_existing(app) as store:
            return await store.credentials.listed("token")

    now = datetime.now(UTC)
    found = [each for each in run(find()) if show_all or each.is_valid(now)]
    if found:
        output().print(_table_of(found, now))
    else:
        click.echo("there is no token; make one with `muniment tokens create`", err=True)


@tokens.command()
@click.argument("id")
@click.pass_obj
def revoke(app: App, *, id: str) -> None:
    """End a token now, and every viewer session made with it.

    It holds within five seconds everywhere.
    """
    _needs_http()
    from muniment.http.auth.tokens import revoke_token

    async def end() -> Credential:
        async with open_log(app) as log:
            return await revoke_token(log, id, actor=_operator())

    found = run(end())
    click.echo(f"token {found.id} ({visible(found.name)}) is revoked")


@tokens.command()
@click.argument("id")
@click.option(
    "--grace",
    callback=_duration,
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long the old one goes on.",
)
@click.pass_obj
def rotate(app: App, *, id: str, grace: timedelta) -> None:
    """Make a token in place of another one, and print it, once.

    It is good for the same, and from now on for as long; the old one goes on for a while.
    """
    _needs_http()
    from muniment.http.auth.tokens import rotate_token

    async def renew() -> Issued:
        async with open_log(app) as log:
            return await rotate_token(log, id, grace=grace, actor=_operator())

    issued = run(renew())
    click.echo(issued.secret)
    until = moment(issued.credential.created_at + grace)
    click.echo(_ROTATED.format(id=issued.credential.id, until=until), err=True, nl=False)


def _needs_http() -> None:
    try:
        import muniment.http  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f"tokens need {error.name}; install it with `pip install 'muniment[http]'`"
        ) from None


def _operator() -> Actor:
    """Whoever runs this program, as the system knows them."""
    try:
        return Actor.user(getpass.getuser())
    except (OSError, KeyError):
        return Actor.system()


def _table_of(found: Sequence[Credential], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
    for name in ("id", "name", "scopes", "tenant", "created (UTC)", "ends (UTC)"):
        table.add_column(name, overflow="fold")
    for each in found:
        tenant = "all tenants" if each.tenant_id is None else visible(each.tenant_id)
        table.add_row(
            *map(Text, (each.id, visible(each.name), " ".join(each.scopes), tenant)),
            Text(moment(each.created_at)),
            Text(_end_of(each, now), style="" if each.is_valid(now) else "dim"),
        )
    return table


def _end_of(each: Credential, now: datetime) -> str:
    ends_at = each.ends_at
    if ends_at is None:
        return "never"
    is_revoked = ends_at == each.revoked_at and ends_at <= now
    return f"{'revoked ' if is_revoked else ''}{moment(ends_at)}"
