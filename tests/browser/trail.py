"""The trail that the browser tests look at: a made-up day, and a tenant that means harm."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from muniment import AuditLog
from muniment.demo import DAY, day
from muniment.event import Actor, Change, Context, Event, Outcome, Target
from muniment.keys import SigningKey

KEY: Final = SigningKey.from_seed("audit.example/log", b"\6" * 32)
"""Signs the checkpoints."""
RANGE: Final = {"since": "2025-03-04T00:00:00Z", "until": "2025-03-05T00:00:00Z"}
"""The whole day, as a query has it."""
HOSTILE: Final = "<img src=x onerror=harm()>"
"""The id of the tenant that means harm."""
INJECTED: Final = "injected"
"""The id of every element that is there if an event became markup."""

_NOON: Final = DAY + timedelta(hours=12)
SCRIPT: Final = f"\"'></title></script><script id={INJECTED}>harm()</script>"
MARKUP: Final = (
    f'<b id={INJECTED}>bold</b><img id={INJECTED} src=x onerror="harm()"><svg/onload=harm()>'
)
TEMPLATE: Final = "{{7*7}} ${7*7} {%raw%} %(x)s {0} javascript:harm()"
ANSI: Final = "\x1b[31mred\x1b[0m\x1b]0;title\x07 \x9b2J"
BIDI: Final = "invoice\u202egnp.exe\u202c \u2066\u2067\u2069 \u200f\u200e end"
CONTROLS: Final = "nul:\x00 bell:\x07 back:\x08 line:\x0a tab:\x09 \u2028 \ufeff \u200b"
LONG: Final = "W" * 4_000
ZALGO: Final = "Z" + "\u0300\u0315\u0489" * 12
ARABIC: Final = "ليلى حداد"
HEBREW: Final = "שלום עולם"
CHINESE: Final = "王芳"


def hostile_events() -> dict[str, Event]:
    """An event for each harm, by its name: the harm is in every field that may hold it."""
    texts = {
        "script": SCRIPT,
        "markup": MARKUP,
        "template": TEMPLATE,
        "ansi": ANSI,
        "bidi": BIDI,
        "controls": CONTROLS,
        "long": LONG,
        "zalgo": ZALGO,
        "arabic": ARABIC,
        "hebrew": HEBREW,
    }
    events = {name: _holding(name, text) for name, text in texts.items()}
    size = 200 * 1024
    events["large"] = _event(
        "large",
        details={f"k{n}": "x" * 1000 for n in range(size // 1010)} | {"last": MARKUP},
    )
    events["text"] = _event("text", details={"text": f"{MARKUP}\n" * (size // len(MARKUP))})
    events["deep"] = _event("deep", details=_nested(30))
    events["targets"] = _event(
        "targets", targets=[Target("invoice", f"i{n}", f"{MARKUP} {n}") for n in range(500)]
    )
    events["changes"] = _event(
        "changes",
        changes=[
            Change(field=f"f{n}", old=f"{MARKUP}\n" * 20, new=[SCRIPT, n]) for n in range(300)
        ],
    )
    return events


def _holding(name: str, text: str) -> Event:
    """An event with a text in every field, as far as each may hold it."""
    short = "".join(c for c in text if c.isprintable())[:400] or "-"
    person = Actor.user(short, name=text)
    return _event(
        name,
        actor=Actor.agent(f"a {short}"[:400], name=text, on_behalf_of=person),
        reason=text,
        targets=[Target(short[:100], short, text), Target("user", f"{short} 2", text)],
        changes=[
            Change(field=short, old=text, new=f"{text} and more"),
            Change(field="lines", old=f"{text}\n" * 9, new=f"{text}\nnew\n" * 9),
            Change(field="object", old={text: text}, new=[text, {text: [text]}]),
        ],
        context=Context(
            ip="203.0.113.9",
            user_agent=text,
            request_id=short,
            session_id=short,
            trace_id=short,
            run_id=short,
            approval_id=short,
            service=short,
        ),
        details={text: text, "list": [text, {text: text}], "n": 1.5, "none": None, "yes": True},
        organization_id=short,
        outcome=Outcome.DENIED,
    )


def _event(name: str, **fields: Any) -> Event:
    """An event of the tenant that means harm, later on that day than the one before it."""
    given: dict[str, Any] = {"actor": Actor.user("u1", name="Ann"), "outcome": Outcome.SUCCESS}
    return Event(
        action=f"harm.{name}",
        tenant_id=HOSTILE,
        idempotency_key=f"harm:{name}",
        occurred_at=_NOON,
        **{**given, **fields},
    )


def _nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"end": MARKUP}
    for n in range(depth):
        found = {f"level {n}": [found]}
    return found


def build_trail(url: str, events: Sequence[Event]) -> None:
    """Record events in an empty store, and have a checkpoint of each tenant cover them."""

    async def build() -> None:
        async with AuditLog.open(url, signing_keys=[KEY], sequence_interval=0.02) as log:
            receipts = await log.record_many(events)
            for receipt in {each.tenant_id: each for each in receipts}.values():
                await log.await_published(receipt)

    # In a thread of its own: while a browser is there, no event loop can run in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, build()).result()


def the_day() -> list[Event]:
    """The made-up day, with what the hostile tenant did in it."""
    return [*day(), *hostile_events().values()]


def copy_of(trail: Path, to: Path) -> sqlite3.Connection:
    """A connection to a copy of a trail, without the triggers that keep it as it is."""
    with closing(sqlite3.connect(trail)) as source:
        copied = sqlite3.connect(to)
        source.backup(copied)
    rows = copied.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for (name,) in rows:
        copied.execute(f"DROP TRIGGER {name}")
    return copied
