"""What people get to see of events: in a table, and each of them whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from muniment import Actor, Change, Context, Event, Target
from tests.cli.running import bodies, muniment, record

_START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _events(count: int, **fields: Any) -> list[Event]:
    return [
        Event(action=f"tick.{n}", occurred_at=_START + timedelta(seconds=n), **fields)
        for n in range(count)
    ]


_HIDDEN = set("\x1b\x07\u202e\u2066\x9b\u2028\x00\u200f")
_HOSTILE = "\x1b]0;owned\x07\u202egnp.\u2066\x9b31m\u2028\x00"


@pytest.mark.parametrize("command", ["search", "search --ids", "show", "tail"])
def test_hidden_characters_are_shown_and_not_obeyed(sqlite_url: str, command: str) -> None:
    """What could drive a terminal, or turn text about, is seen as an escape."""
    event = Event(
        action="a\u202eb",
        tenant_id="t\u2066",
        actor=Actor.user("u", name=_HOSTILE),
        targets=(Target("file\u200f", "f", _HOSTILE),),
        reason=_HOSTILE,
        changes=(Change(field=_HOSTILE, old=_HOSTILE, new=_HOSTILE),),
        context=Context(user_agent=_HOSTILE),
        details={_HOSTILE: {"in": _HOSTILE}},
    )
    first, _ = record(sqlite_url, [Event(action="first"), event])
    where = {"show": [event.event_id], "tail": ["--no-follow", "--after", first.event_id]}
    shown = muniment(*command.split(), *where.get(command, []), url=sqlite_url).stdout
    assert "\\u202e" in shown
    assert set(shown) & _HIDDEN == set()


@pytest.mark.parametrize("columns", [50, 80, 120, 200])
def test_a_table_fits_its_terminal_and_cuts_nothing_off(sqlite_url: str, columns: int) -> None:
    """Long values fold; every character of them is still there."""
    event = Event(
        action="β" * 40,
        tenant_id="Ж" * 40,
        actor=Actor.agent("語" * 40, on_behalf_of=Actor.user("Л" * 40)),
        targets=(Target("ε" * 40, "δ" * 40),),
    )
    record(sqlite_url, [event])
    table = muniment("search", url=sqlite_url, columns=columns).stdout
    assert max(map(cell_len, table.splitlines())) <= columns
    assert {c: table.count(c) for c in "ЖβЛδε語"} == dict.fromkeys("ЖβЛδε語", 40)


def test_show_has_everything_of_the_event(sqlite_url: str) -> None:
    """A person reads all that the body holds, and the leaf hash."""
    event = Event(
        action="role_assign",
        tenant_id="acme",
        reason="asked for",
        actor=Actor.agent("a7", name="Ops bot", on_behalf_of=Actor.user("u1", name="Ann")),
        targets=(Target("user", "u2", "王芳"),),
        changes=(Change(field="roles", old=["member"], new=["admin"]),),
        context=Context(ip="192.0.2.1", user_agent="curl", run_id="r1"),
        details={"über": {"n": 1}},
        organization_id="org9",
        idempotency_key="k1",
    )
    (receipt,) = record(sqlite_url, [event])
    shown = muniment("show", event.event_id, url=sqlite_url).stdout
    wanted = (
        *(
            event.event_id,
            "role_assign",
            "acme",
            "asked for",
            "agent Ops bot (a7)",
            "user Ann (u1)",
        ),
        *("王芳 (u2)", 'roles: ["member"] → ["admin"]', "192.0.2.1", "curl", "r1", "org9", "k1"),
        *('"über": {', '"n": 1', receipt.leaf_hash.hex()),
    )
    assert [text for text in wanted if text not in shown] == []


def test_show_as_json_is_the_stored_body(sqlite_url: str) -> None:
    """A program gets the very bytes that the leaf hash is of."""
    (receipt,) = record(sqlite_url, _events(1, details={"n": 1e20, "é": "\u2028"}))
    done = muniment("show", receipt.event_id, "--format", "json", url=sqlite_url)
    assert done.raw == bodies(sqlite_url)[0] + b"\n"


def test_show_finds_no_event_of_another_tenant(sqlite_url: str) -> None:
    """One that isn't there and one that isn't yours are the same answer, and a failure."""
    (receipt,) = record(sqlite_url, _events(1, tenant_id="acme"))
    done = muniment("show", receipt.event_id, "--tenant", "beta", url=sqlite_url)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
