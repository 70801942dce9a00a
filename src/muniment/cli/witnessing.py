"""The commands that watch over a log from outside: witness, watch."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muniment.cli.app import App, open_existing, run
from muniment.cli.known_keys import KEY_OR_FILE, known_keys
from muniment.errors import InvalidConfig, StoreError
from muniment.visible import visible

# What signs and what serves is imported where it is needed: most commands do without.
if TYPE_CHECKING:
    from muniment.remembering import Finding, Watcher

_T = TypeVar("_T")

_LOGGER = "muniment.witness"


def _address(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, where an IPv6 address stands in brackets."""
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:7340", ctx, param)
    return host, int(port)


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment keygen example.org/witness --out witness.key --witness\n"
    "  muniment witness --key-file witness.key --state witness.db \\\n"
    "    --trust @audit.pub"
)
@click.option(
    "--key-file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The witness's private key, made by `muniment keygen --witness`.",
)
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar=KEY_OR_FILE,
    help="The public key of a log whose checkpoints are cosigned, those of all its tenants "
    "included. May be repeated.",
)
@click.option(
    "--trust-only",
    "trusted_only",
    multiple=True,
    metavar=KEY_OR_FILE,
    help="The public key of one log, such as a tenant's own: none below its name is known. May be "
    "repeated.",
)
@click.option(
    "--state",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What the witness remembers: a file of its own, made if it isn't there. Never restore an "
    "older copy of it.",
)
@click.option(
    "--listen",
    callback=_address,
    default="127.0.0.1:7340",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to answer, over plain HTTP; port 0 takes a free one.",
)
def witness(
    *,
    key_file: Path,
    trusted: Sequence[str],
    trusted_only: Sequence[str],
    state: Path,
    listen: tuple[str, int],
) -> None:
    """Cosign checkpoints, as long as they hold all that was cosigned before.

    Prints its public key and its address, then one line of JSON for each decision on stderr, until
    it is stopped by SIGTERM or Ctrl-C.
    """
    from muniment.keys import SigningKey
    from muniment.witness import Ledger, Witness

    if not trusted and not trusted_only:
        raise click.UsageError("say whose checkpoints are cosigned: --trust KEY, or --trust-only")
    key = SigningKey.read(key_file)
    logs = known_keys(trusted, option="--trust")
    single = known_keys(trusted_only, option="--trust-only")
    ledger = Ledger(state)
    try:
        with _decisions_shown():
            served = Witness(key, logs, ledger, trusted_only=single)
            run(_serve(served, key.verifier.text(), listen))
    finally:
        ledger.close()


async def _serve(witness: Any, vkey: str, listen: tuple[str, int]) -> None:
    try:
        from muniment.witness.server import WitnessServer
    except ImportError as error:
        raise InvalidConfig(
            f"a witness needs {error.name or 'aiohttp'}; install it with "
            "`pip install 'muniment[witness]'`"
        ) from error
    stopped = _stopped()
    server = WitnessServer(witness)
    try:
        url = await server.start(*listen)
        click.echo(f"public key {visible(vkey)}")
        click.echo(f"listening on {url}")
        click.echo(f"logs that are remembered: {witness.remembered:,}")
        await stopped.wait()
    finally:
        await server.close()


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment watch --all --key @audit.pub --memory seen --once\n"
    "  muniment watch --tenant acme --key @audit.pub --memory seen"
)
@click.option("--tenant", "tenant_ids", multiple=True, metavar="ID", help="May be repeated.")
@click.option("--all", "everybody", is_flag=True, help="All tenants that live or are remembered.")
@click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    metavar=KEY_OR_FILE,
    help="The log's public key. May be repeated: after a rotation, the older one too.",
)
@click.option(
    "--memory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the checkpoints that were seen are kept; out of reach of the database's owner.",
)
@click.option(
    "--anchors",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="An anchor's directory, whose checkpoints are remembered too; it is only read. May be "
    "repeated.",
)
@click.option("--once", is_flag=True, help="Look once; else again and again, until stopped.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait before looking again.",
)
@click.pass_obj
def watch(
    app: App,
    /,
    *,
    tenant_ids: Sequence[str],
    everybody: bool,
    keys: Sequence[str],
    memory: Path,
    anchors: Sequence[Path],
    once: bool,
    interval: float,
) -> None:
    """Check that a live log still holds every checkpoint remembered of it.

    Each problem is a line on stderr: the tenant, what it is, and the sizes of the trees. The exit
    code is 1 if there was one, or if the log could not be looked at; else 0.
    """
    from muniment.anchors.directory import CheckpointDirectory
    from muniment.remembering import Watcher

    if bool(tenant_ids) == everybody:
        raise click.UsageError("say whom to look at: --tenant ID, or --all")
    known = known_keys(keys, option="--key")

    async def work() -> bool:
        async with open_existing(app) as store:
            watcher = Watcher(
                store.trees,
                CheckpointDirectory(memory),
                known,
                anchors=map(CheckpointDirectory, anchors),
            )
            named = tenant_ids or None
            if once:
                return _told(watcher, await watcher.look(named))
            return await _watch_on(watcher, named, interval)

    if not run(work()):
        raise click.exceptions.Exit(1)


async def _watch_on(watcher: Watcher, tenant_ids: Sequence[str] | None, interval: float) -> bool:
    """Whether nothing was wrong until we were stopped."""
    stopped = _stopped()
    all_well = True
    while not stopped.is_set():
        is_well = await _unless_stopped(stopped, _look(watcher, tenant_ids))
        all_well = all_well and is_well is not False
        await _unless_stopped(stopped, asyncio.sleep(interval))
    return all_well


async def _look(watcher: Watcher, tenant_ids: Sequence[str] | None) -> bool:
    try:
        return _told(watcher, await watcher.look(tenant_ids))
    except (StoreError, OSError) as error:
        # It may be back the next time; whoever watches must know that nobody looked.
        click.echo(f"not looked at: {visible(str(error))}", err=True)
        return False


async def _unless_stopped(stopped: asyncio.Event, work: Awaitable[_T]) -> _T | None:
    """What the work gives; None if we are stopped before it ends."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return None


def _told(watcher: Watcher, findings: list[Finding]) -> bool:
    for each in findings:
        line = f"{each.tenant_id}: {each.kind}: {each.problem}"
        click.echo(visible(" ".join(line.split("\n"))), err=True)
    new = f", {watcher.first_seen:,} of them seen for the first time" if watcher.first_seen else ""
    click.echo(f"logs that hold all that is remembered of them: {watcher.looked_at:,}{new}")
    return not findings


def _stopped() -> asyncio.Event:
    """Set when we are told to end, so that what we are at is brought to its end first."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


@contextmanager
def _decisions_shown() -> Iterator[None]:
    logger = logging.getLogger(_LOGGER)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
