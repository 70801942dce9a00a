"""The command that shows what muniment does, in one go."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from muniment import demo as story
from muniment.cli.app import App, open_log, run
from muniment.cli.progress import Progress
from muniment.cli.render import output, table_of
from muniment.event import Event
from muniment.log import AuditLog
from muniment.receipts import Receipt
from muniment.stores import without_password

if TYPE_CHECKING:  # what signs is imported where there is a key
    from muniment.keys import SigningKey, VerifyingKey

DEMO_URL: Final = "sqlite:///muniment-demo.db"
_KEY_FILE: Final = "muniment-demo.key"
_BATCH: Final = 200


class _Question(NamedTuple):
    """A search of the demo, as the command line and as the call have it."""

    asks: str
    options: tuple[str, ...]
    filters: dict[str, Any]


_QUESTIONS: Final = (
    _Question(
        "What was refused at waha?",
        ("--tenant", "waha", "--outcome", "denied", "--limit", "3"),
        {"tenant_id": "waha", "outcome": "denied", "limit": 3},
    ),
    _Question(
        "What did agents do on behalf of 王芳?",
        ("--user", "u-wangfang", "--actor-type", "agent", "--limit", "3"),
        {"user_id": "u-wangfang", "actor_type": "agent", "limit": 3},
    ),
    _Question(
        f"A password was guessed from {story.INTRUDER_IP}: what then?",
        ("--text", story.INTRUDER_IP, "--outcome", "success", "--oldest"),
        {"text": story.INTRUDER_IP, "outcome": "success", "order": "oldest"},
    ),
)


@click.command()
@click.pass_obj
def demo(app: App) -> None:
    """Record a made-up day of an agent platform, find things and prove one.

    It goes into muniment-demo.db, and is signed with muniment-demo.key, unless --url says
    otherwise, so that no real log gets it from MUNIMENT_URL. Running it again adds nothing.
    """
    url = app.url if app.url_given else DEMO_URL
    run(_demo(App(url=url, url_given=True, verbose=app.verbose)))


async def _demo(app: App) -> None:
    console = output()
    events = story.day()
    console.print("muniment keeps who did what to what, for which tenant, and how it ended.\n")
    keys = [_demo_key()] if app.url == DEMO_URL else None
    async with open_log(app, signing_keys=keys) as log:
        started = time.perf_counter()
        receipts = await _record(log, events)
        _tell_recorded(console, app.url, receipts, time.perf_counter() - started)
        found: list[Event] = []
        for question in _QUESTIONS:
            started = time.perf_counter()
            page = await log.search(**question.filters)
            _tell_found(console, question, page.events, time.perf_counter() - started)
            found += page.events
        if keys:
            await log.await_published(
                next(each for each in receipts if each.event_id == found[0].event_id)
            )
            await _tell_proof(console, log, found[0], keys[0].verifier)
    console.print("Go on with:")
    commands = [f"show {found[0].event_id}", "stats", "search --help"]
    if keys:
        tenant = found[0].tenant_id
        commands += [
            f"export --tenant {tenant} --evidence {tenant}.jsonl",
            f"verify {tenant}.jsonl --key {keys[0].verifier.text()}",
        ]
    for command in commands:
        _tell_command(console, f"{_program()} {command}")
    console.print("Or look at it in a browser:")
    if not find_spec("granian"):
        _tell_command(console, "pip install 'muniment[http]'")
    _tell_command(console, f"{_program()} serve")


def _demo_key() -> SigningKey:
    from muniment.keys import SigningKey, write_key

    path = Path(_KEY_FILE)
    if not path.exists():
        write_key(path, SigningKey.generate("demo.example/audit"))
    return SigningKey.read(path)


async def _tell_proof(console: Console, log: AuditLog, event: Event, key: VerifyingKey) -> None:
    console.print(Text("Is the first of these still as it was recorded?", style="bold"))
    _tell_command(console, f"{_program()} prove {event.event_id}")
    proof = await log.prove(event.event_id, tenant_id=event.tenant_id)
    body = await log.body(event.event_id, tenant_id=event.tenant_id)
    signed = proof.verify(body.encode(), [key.for_tenant(event.tenant_id)])
    console.print(
        f"Yes: it is leaf {proof.leaf_index:,} of {signed.tree_size:,} in the tree of "
        f"{event.tenant_id}; {len(proof.hashes)} hashes lead from it to the root, which is signed."
    )
    console.print("Whoever edits it now, in the database itself, can't make that true again.\n")


async def _record(log: AuditLog, events: Sequence[Event]) -> list[Receipt]:
    receipts: list[Receipt] = []
    with Progress("Recording", unit="events", beside_output=True) as progress:
        for start in range(0, len(events), _BATCH):
            receipts += await log.record_many(events[start : start + _BATCH])
            progress.advance(_BATCH, done=len(receipts), total=len(events))
    return receipts


def _tell_recorded(console: Console, url: str, receipts: Sequence[Receipt], seconds: float) -> None:
    before = sum(receipt.already for receipt in receipts)
    people = sum(len(tenant.people) for tenant in story.TENANTS)
    console.print(
        f"Recorded {len(receipts):,} events in {seconds:.2f} s: a day of {len(story.TENANTS)} "
        f"tenants and {people} people."
    )
    if before:
        console.print(f"{before:,} of them had been recorded before; nothing is stored twice.")
    places = " and the ".join(sorted({receipt.durable_in for receipt in receipts}))
    first = receipts[0]
    console.print(f"Each was durable in the {places} before its receipt came. The first receipt:")
    console.print(f"  event_id {first.event_id}  leaf_hash {first.leaf_hash.hex()[:16]}…\n")
    shown = without_password(url)
    _tell_command(console, f"export MUNIMENT_URL={shlex.quote(shown)}")
    if shown != url:
        console.print("with your password in place of ***")
    console.print()


def _tell_found(
    console: Console, question: _Question, events: Sequence[Event], seconds: float
) -> None:
    console.print(
        Text(question.asks, style="bold").append(
            f"  {len(events)} events in {seconds * 1000:.0f} ms", style="not bold dim"
        )
    )
    _tell_command(console, f"{_program()} {shlex.join(['search', *question.options])}")
    console.print(table_of(events, width=console.width))
    console.print()


def _program() -> str:
    """How to call this program from here: as it was called, if its name alone would not do."""
    here = Path(sys.argv[0])
    if here.name != "muniment":
        return shlex.join([sys.executable, "-m", "muniment.cli"])
    found = shutil.which("muniment")
    if found is not None and Path(found).resolve() == here.resolve():
        return "muniment"
    return shlex.quote(str(here))


def _tell_command(console: Console, command: str) -> None:
    console.print(Text(f"$ {command}", style="cyan"), soft_wrap=True)
