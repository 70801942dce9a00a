from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muniment import Actor, Change, Context, Event, Target
from muniment.canonical import decode, encode
from tests.cli.running import muniment, record, search

_EVENTS = [
    Event(
        action="role_assign",
        tenant_id="acme",
        occurred_at=datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC),
        actor=Actor.agent("a7", on_behalf_of=Actor.user("u1", name="王芳")),
        targets=(Target("user", "u2"),),
        changes=(Change(field="n", old=1e20, new=[0.1]),),
        context=Context(run_id="r1"),
        details={"big": 1e17, "small": 1e-7, "é": {"\U0001f600": 1.0}},
        idempotency_key="k1",
    ),
    Event(action="login"),
]


@pytest.fixture
def export(tmp_path: Path) -> tuple[str, Path]:
    """A log in SQLite and its export."""
    url = f"sqlite:///{tmp_path}/first.db"
    record(url, _EVENTS)
    path = tmp_path / "export.jsonl"
    path.write_bytes(muniment("search", "--all", "--format", "jsonl", url=url).raw)
    return url, path


def test_an_export_arrives_in_another_log_with_its_ids_once(
    export: tuple[str, Path], store_url_ready: str
) -> None:
    """Every event has the same event_id and source fields there; the second import adds nothing."""
    url, path = export
    runs = [muniment("import", "jsonl", path, url=store_url_ready) for _ in range(2)]
    bare = [
        [json.loads(encode(event)) for event in search(where)] for where in (url, store_url_ready)
    ]
    for events in bare:
        for event in events:
            del event["salt"], event["recorded_at"]
    assert bare[0] == bare[1]
    assert ["2 new, 0 recorded" in runs[0].stdout, "0 new, 2 recorded" in runs[1].stdout] == [
        True,
        True,
    ]


def test_recorded_at_and_salt_are_the_importing_log_s_own(
    export: tuple[str, Path], sqlite_url: str
) -> None:
    """What the other log stamped is not taken over: this log says when it recorded, and salts."""
    url, path = export
    muniment("import", "jsonl", path, url=sqlite_url)
    there, here = search(url)[0], search(sqlite_url)[0]
    assert there.salt != here.salt
    assert there.recorded_at is not None
    assert here.recorded_at is not None
    assert there.recorded_at < here.recorded_at


def test_importing_a_log_s_own_export_adds_nothing(export: tuple[str, Path]) -> None:
    """An export is no second copy."""
    url, path = export
    done = muniment("import", "jsonl", path, url=url)
    assert (done.exit_code, "0 new, 2 recorded before" in done.stdout) == (0, True)


def test_a_key_without_a_source_time_stays_one_event(tmp_path: Path, sqlite_url: str) -> None:
    """An event recorded by key alone is found by that key again after it moved to another log."""
    first = f"sqlite:///{tmp_path}/first.db"
    muniment("record", "pay", "--idempotency-key", "invoice-7", url=first)
    lines = muniment("search", "--format", "jsonl", url=first).raw
    muniment("import", "jsonl", "-", url=sqlite_url, stdin=lines)
    muniment("record", "pay", "--idempotency-key", "invoice-7", url=sqlite_url)
    assert [event.event_id for event in search(sqlite_url)] == [search(first)[0].event_id]


def test_the_tenant_given_is_everyones(export: tuple[str, Path], sqlite_url: str) -> None:
    """--tenant says whose the events are, whatever their lines say."""
    muniment("import", "jsonl", export[1], "--tenant", "beta", url=sqlite_url)
    assert {event.tenant_id for event in search(sqlite_url)} == {"beta"}


def test_another_event_under_a_stored_id_is_refused(
    export: tuple[str, Path], tmp_path: Path
) -> None:
    """What differs from what is stored is told of with its place; the first one is kept."""
    url, path = export
    line = path.read_bytes().splitlines()[0]
    changed = tmp_path / "changed"
    changed.write_bytes(line.replace(b'"login"', b'"logout"'))
    done = muniment("import", "jsonl", changed, url=url)
    assert done.exit_code == 1
    assert f"refused {changed}:1: event " in done.stderr
    assert "differs in action" in done.stderr
    assert search(url)[0].action == "login"


def test_what_is_refused_is_not_recorded_as_a_loss(sqlite_url: str) -> None:
    """The line is still in its file: the log holds the good events and nothing else."""
    far = b'{"action":"a","event_id":"ffff0000-0000-7000-8000-000000000000"}\n'
    muniment("import", "jsonl", "-", url=sqlite_url, stdin=far + encode(_EVENTS[1]))
    assert [event.action for event in search(sqlite_url)] == ["login"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"action":"a"}', "event_id: is missing"),
        ('{"action":"a","event_id":"7"}', "event_id: '7' is not a lower-case UUIDv7"),
        ('{"event_id":"019d0000-0000-7000-8000-000000000000"}', "action"),
        ('{"action":7}', "action"),
        ('{"action":"a","colour":1}', "colour: is no field"),
        ('{"action":"a","context":{"colour":1}}', "context.colour: is no field"),
        ('{"action":"a","targets":[{"type":"t","id":"i","x":1}]}', "targets[0].x: is no field"),
        ('{"action":"a","actor":{"type":"user","id":"u","x":1}}', "actor.x: is no field"),
        ('{"action":"a","outcome":"fine"}', "outcome"),
        ('{"action":"a","tenant_id":""}', "tenant_id"),
        ('{"action":"a","schema_version":99}', "install a newer muniment"),
        ('{"action":"a","occurred_at":"2026-01-31T12:00:00"}', "occurred_at"),
        ('{"action":"a","details":{"n":9007199254740993}}', ""),
    ],
)
def test_a_line_that_is_no_event_says_why(line: str, says: str, sqlite_url: str) -> None:
    """The field at fault is named, and nothing is dropped silently to make it fit."""
    done = muniment("import", "jsonl", "-", url=sqlite_url, stdin=line.encode())
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert says in done.stderr
    assert search(sqlite_url) == []


def test_a_line_with_time_and_key_needs_no_id(sqlite_url: str) -> None:
    """The id follows from them, the same one each time."""
    line = b'{"action":"a","occurred_at":"2026-01-31T12:00:00Z","idempotency_key":"k"}\n'
    muniment("import", "jsonl", "-", url=sqlite_url, stdin=line + line)
    assert [event.event_id for event in search(sqlite_url)] == [decode(line).event_id]
