"""The commands about trees: sequence, checkpoint, prove."""

from __future__ import annotations

import asyncio
import signal

import click

from muniment.cli.app import App, open_existing, open_log, run
from muniment.cli.render import messages
from muniment.config import above_zero
from muniment.diagnostics import Diagnostics
from muniment.errors import MunimentError
from muniment.sequencer import DEFAULT_INTERVAL, make_sequencer, sequencer_options
from muniment.visible import visible


@click.command(
    epilog="\b\nFor example:\n"
    "  MUNIMENT_SIGNING_KEY_FILE=audit.key muniment sequence\n"
    "  muniment sequence --once"
)
@click.option(
    "--interval",
    type=float,
    default=DEFAULT_INTERVAL,
    show_default=True,
    help="Seconds between two rounds.",
)
@click.option("--once", is_flag=True, help="Do all there is to do, and end.")
@click.pass_obj
def sequence(app: App, *, interval: float, once: bool) -> None:
    """Give events their leaves, and publish signed checkpoints.

    A log does so by itself. This is for a database that applications write to with fewer rights,
    or with sequence=False. It signs with the keys of MUNIMENT_SIGNING_KEY_FILE or
    MUNIMENT_SIGNING_KEY, brings checkpoints to MUNIMENT_ANCHORS, and ends at SIGTERM or SIGINT.
    The exit code is 1 if by then not all is signed, or an anchor did not take its checkpoints.
    """
    above_zero(interval=interval)
    run(_sequence(app, interval, once=once))


async def _sequence(app: App, interval: float, *, once: bool) -> None:
    options = sequencer_options(keys=None, anchors=None, interval=interval)
    async with open_existing(app) as store:
        reason = await store.trees.why_not()
        if reason is not None:
            raise MunimentError(reason)
        sequencer = make_sequencer(store.trees, options, diagnostics=Diagnostics())
        if not options.keys:
            _say("no signing key: trees grow, but no checkpoint is published (muniment keygen)")
        if not once:
            _say(f"sequencing every {interval:g} s; Ctrl-C ends it")
            stopped = asyncio.Event()
            for sent in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(sent, stopped.set)
            sequencer.start()
            await stopped.wait()
            await sequencer.close()
        else:
            await sequencer.run_once()
        done = sequencer.state()
        _say(f"{done.integrated:,} events integrated, {done.published:,} checkpoints published")
        troubles = [f"{anchor}: {reason}" for anchor, reason in done.unanchored.items()]
        if done.error is not None:
            troubles.insert(0, done.error)
        if troubles:
            raise MunimentError("; ".join(troubles))


@click.command()
@click.option("--tenant", required=True, help="Whose checkpoint.")
@click.option("--size", type=click.IntRange(min=1), help="Of so many leaves; else the newest.")
@click.pass_obj
def checkpoint(app: App, *, tenant: str, size: int | None) -> None:
    """Print a tenant's signed checkpoint, to be kept by whoever will verify.

    It is a C2SP checkpoint: the origin, the number of leaves, the root hash, and signatures.
    """
    click.echo(run(_checkpoint(app, tenant, size)), nl=False)


async def _checkpoint(app: App, tenant: str, size: int | None) -> str:
    async with open_log(app, for_reading=True) as log:
        if size is None:
            return (await log.checkpoint(tenant)).note
        found = await log.store.trees.checkpoint(tenant, size)
        if found is None:
            raise MunimentError(f"tenant {tenant!r} has no checkpoint of {size} leaves")
        return found.note


@click.command()
@click.argument("event_id")
@click.option("--tenant", help="Whose event it is; without it any tenant's is proved.")
@click.pass_obj
def prove(app: App, *, event_id: str, tenant: str | None) -> None:
    """Print the proof that an event is in its tenant's trail.

    It is a C2SP tlog-proof: the leaf's index, the hashes that lead from it to the root, and the
    signed checkpoint. The leaf is the event's body, which `muniment show --format json` prints.
    """
    click.echo(run(_prove(app, event_id, tenant)), nl=False)


async def _prove(app: App, event_id: str, tenant: str | None) -> str:
    async with open_log(app, for_reading=True) as log:
        return (await log.prove(event_id, tenant_id=tenant)).text()


def _say(message: str) -> None:
    messages().print(visible(message), markup=False, highlight=False)
