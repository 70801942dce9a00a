"""The command that shows what muniment does, in one go."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

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

DEMO_URL: Final = "sqlite:///muniment-demo.db"
_BATCH: Final = 200


class _Question(NamedTuple):
    """A search of the demo, as the command line and as the call have it."""

    asks: str
    options: tuple[str, ...]
    filters: dict[str, Any]
    limit: int


_QUESTIONS: Final = (
    _Question(
        "What was refused at waha, and to whom?",
        ("--tenant", "waha", "--outcome", "denied", "--limit", "3"),
        {"tenant_id": "waha", "outcome": "denied"},
        3,
    ),
    _Question(
        "Who was made what? Every role granted, all tenants.",
        ("--action", "role_*", "--limit", "4"),
        {"action": "role_*"},
        4,
    ),
    _Question(
        "What did agents do on behalf of 王芳?",
        ("--user", "u-wangfang", "--actor-type", "agent", "--limit", "3"),
        {"user_id": "u-wangfang", "actor_type": "agent"},
        3,
    ),
    _Question(
        "Who came from the intruder's address, once they were in?",
        ("--text", story.INTRUDER_IP, "--outcome", "success", "--oldest"),
        {"text": story.INTRUDER_IP, "outcome": "success", "order": "oldest"},
        50,
    ),
)


@click.command()
@click.pass_obj
def demo(app: App) -> None:
    """Record a made-up day of an agent platform, then find things in it.

    It goes into muniment-demo.db unless --url says otherwise. Running it again adds nothing.
    """
    url = app.url if app.url_given else DEMO_URL
    run(_demo(App(url=url, url_given=True, verbose=app.verbose)))


async def _demo(app: App) -> None:
    console = output()
    events = story.day()
    async with open_log(app) as log:
        started = time.perf_counter()
        receipts = await _record(log, events)
        seconds = time.perf_counter() - started
        _tell_recorded(console, app.url, receipts, seconds)
        for question in _QUESTIONS:
            started = time.perf_counter()
            page = await log.search(**question.filters, limit=question.limit)
            seconds = time.perf_counter() - started
            _tell_found(console, app.url, question, page.events, seconds)
    _tell_next(console, app.url, receipts[-1].event_id)


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
    agents = sum(len(tenant.agents) for tenant in story.TENANTS)
    console.print("muniment keeps who did what to what, for which tenant, and how it ended.\n")
    console.print(
        f"Recorded {len(receipts):,} events, a day of {len(story.TENANTS)} tenants, {people} "
        f"people and {agents} agents, into {url} in {seconds:.2f} s."
    )
    if before:
        console.print(f"{before:,} of them had been recorded before, and nothing is stored twice.")
    places = ", ".join(sorted({receipt.durable_in for receipt in receipts}))
    last = receipts[-1]
    console.print(f"Each was durable (in the {places}) before its receipt came. The last receipt:")
    console.print(f"  event_id {last.event_id}  leaf_hash {last.leaf_hash.hex()[:16]}…\n")


def _tell_found(
    console: Console, url: str, question: _Question, events: Sequence[Event], seconds: float
) -> None:
    command = shlex.join(["muniment", "--url", url, "search", *question.options])
    console.print(Text(question.asks, style="bold"))
    console.print(Text(f"$ {command}", style="cyan"), soft_wrap=True)
    console.print(table_of(events))
    console.print(Text(f"{len(events)} events in {seconds * 1000:.1f} ms\n", style="dim"))


def _tell_next(console: Console, url: str, event_id: str) -> None:
    base = shlex.join(["muniment", "--url", url])
    console.print("Go on with:")
    for command in (f"show {event_id}", "search --help", "tail"):
        console.print(Text(f"$ {base} {command}", style="cyan"), soft_wrap=True)
