"""The command `serve`: the trail over HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from muniment.cli.app import App, run
from muniment.errors import InvalidConfig
from muniment.event import SYSTEM_TENANT, Actor, Outcome
from muniment.log import AuditLog
from muniment.sealing import utc_now
from muniment.stores import without_password
from muniment.visible import visible

if TYPE_CHECKING:  # what serves is loaded by this command alone
    from muniment.http.settings import ServiceSettings

_EXAMPLE: Final = """\
  curl {url}/v1/events -H "Authorization: Bearer $TOKEN" \\
    -H 'Content-Type: application/json' \\
    -d '{{"action":"login","tenant_id":"acme","actor":{{"type":"user","id":"u1"}}}}'"""


def _settable(name: str, help: str, **more: Any) -> Callable[[Any], Any]:
    """An option that comes before the setting of that name in the environment and the file."""
    return click.option(f"--{name}", default=None, help=help, **more)


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment serve\n"
    "  muniment serve --config /etc/muniment/muniment.toml\n"
    "\b\n"
    "Every setting may be in the environment, as MUNIMENT_HTTP_ and its name, or in\n"
    "the file; docs/deploy.md lists them."
)
@click.option(
    "--config",
    "file",
    envvar="MUNIMENT_CONFIG",
    show_envvar=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Settings, in TOML. Options and the environment come before it.",
)
@_settable("host", "The address to listen on; 127.0.0.1 unless set.", metavar="ADDRESS")
@_settable("port", "The port, 8640 unless set; 0 picks a free one.", type=int, metavar="N")
@_settable("workers", "How many processes answer, 1 unless set.", type=int, metavar="N")
@_settable("tls-certificate", "A PEM file: the certificate and its chain.", metavar="FILE")
@_settable("tls-key", "A PEM file: the certificate's key.", metavar="FILE")
@_settable("behind-tls", "A proxy ends TLS, and nobody else reaches us.", is_flag=True)
@_settable("allow-plain-http", "Listen beyond loopback without TLS.", is_flag=True)
@_settable("access-log", "A line for each request, on stderr.", is_flag=True)
@click.pass_obj
def serve(app: App, /, *, file: str | None, **options: Any) -> None:
    """Serve the trail: an API at /v1, and the viewer at /.

    Listens on this machine only, unless told otherwise. The first time, it makes a token and
    prints it once. SIGTERM lets requests finish and ends.
    """
    try:
        from muniment.http import serving
        from muniment.http.settings import load_settings
    except ImportError as error:
        missing = error.name or "more"
        if missing.startswith("muniment."):
            raise
        raise InvalidConfig(
            f"serve needs {missing}; install it with `pip install 'muniment[http]'`"
        ) from error
    settings, named = load_settings(file, **options)
    is_set = app.url_given or os.environ.get("MUNIMENT_URL")
    url = app.url if is_set or named is None else named
    is_open = not serving.is_loopback(serving.resolved(settings.host))
    if is_open:
        _refuse_plain(settings)
    AuditLog.open(url)  # what every worker would trip over, such as a bad key, is told here, once
    # Before a token is made: it is shown once, and should not be for nothing.
    with serving.bound(settings) as place:
        # A link that lets anybody in, if only once and for minutes, is for a person's eyes alone.
        seen = sys.stdout is not None and sys.stdout.isatty()
        token, code = run(_ways_in(url, settings, is_open=is_open, with_link=seen and not is_open))
        if token:
            click.echo(
                f"the first token, good for everything and shown this once:\n  TOKEN={token}"
            )

        def tell() -> None:
            click.echo(_welcome(place.url(settings), url, code))

        serving.serve(url, settings, place, when_up=tell)


def _refuse_plain(settings: ServiceSettings) -> None:
    if settings.tls_certificate or settings.behind_tls or settings.allow_plain_http:
        return
    raise InvalidConfig(
        f"host: {settings.host} can be reached from elsewhere, and tokens would cross the network "
        "in the clear; give --tls-certificate and --tls-key, or --behind-tls if a proxy ends TLS, "
        "or --allow-plain-http"
    )


async def _ways_in(
    url: str, settings: ServiceSettings, *, is_open: bool, with_link: bool
) -> tuple[str | None, str | None]:
    """A new token if there is none that is valid, and the code of a link into the viewer.

    Beyond loopback there must be a token already.
    """
    from muniment.http.auth.tokens import make_first_token

    async with AuditLog.open(url, sequence=False) as log:
        if not is_open:
            return await make_first_token(log), await _link(log, settings) if with_link else None
        if not settings.oidc_issuer:
            tokens = await log.store.credentials.listed("token")
            if not any(token.is_valid(utc_now()) for token in tokens):
                raise InvalidConfig(
                    f"host: {settings.host} can be reached from elsewhere, and nobody has a token; "
                    "make one with `muniment tokens create`, or serve on 127.0.0.1 first"
                )
        return None, None


async def _link(log: AuditLog, settings: ServiceSettings) -> str:
    """The code of a link that opens the viewer once, on all tenants, to read."""
    from muniment.http.auth.linking import LINK_ACTION, LINK_SCOPES
    from muniment.http.auth.secrets import issue

    now = utc_now()
    issued = issue(
        "link",
        name="muniment serve",
        scopes=LINK_SCOPES,
        tenant_id=None,
        created_at=now,
        expires_at=now + settings.link_lifetime,
    )
    await log.store.credentials.add(issued.credential)
    details = {"link": issued.credential.id, "scopes": list(issued.credential.scopes)}
    await log.record(
        LINK_ACTION,
        on_error="raise",
        tenant_id=SYSTEM_TENANT,
        actor=Actor.system(),
        outcome=Outcome.SUCCESS,
        details=details,
    )
    return issued.secret


def _welcome(base: str, url: str, code: str | None) -> str:
    viewer = f"the viewer is at {base}/; sign in with a token"
    if code:
        viewer = f"the viewer, for a look right now: {base}/enter?code={code}"
    lines = [
        f"muniment serves {visible(without_password(url))} at {base}",
        viewer,
        f"the API is at {base}/v1, described at {base}/schema; for example, with a token in TOKEN:",
        _EXAMPLE.format(url=base),
        "Ctrl-C ends it, once requests have finished.",
    ]
    return "\n".join(lines)
