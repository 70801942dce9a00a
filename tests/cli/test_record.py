from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import muniment, search


def test_record_prints_the_id_under_which_the_event_is_found(sqlite_url: str) -> None:
    """Standard output is the event_id alone; the rest of the receipt is for people, on stderr."""
    done = muniment("record", "login", "--tenant", "acme", "--actor", "user:u1", url=sqlite_url)
    (event,) = search(sqlite_url, tenant_id="acme", actor_id="u1")
    assert (done.exit_code, done.stdout) == (0, f"{event.event_id}\n")
    assert done.stderr.startswith("durable in the store, leaf_hash ")


def test_record_gives_the_whole_receipt_as_json(sqlite_url: str) -> None:
    """A program gets every field of the receipt."""
    done = muniment("record", "login", "--tenant", "acme", "--format", "json", url=sqlite_url)
    receipt = json.loads(done.stdout)
    (event,) = search(sqlite_url)
    assert receipt.pop("leaf_hash") != ""
    assert receipt == {
        "tenant_id": "acme",
        "event_id": event.event_id,
        "durable_in": "store",
        "already": False,
    }


def test_every_option_of_record_reaches_its_field(sqlite_url: str) -> None:
    """What is typed is what is stored."""
    muniment(
        *("record", "role_assign", "--tenant", "acme", "--outcome", "denied", "--reason", "no"),
        *("--actor", "agent:a7", "--actor-name", "Ops bot"),
        *("--on-behalf-of", "user:u1", "--on-behalf-of", "service:sso"),
        *("--target", "user:u2", "--target", "role:r:1"),
        *("--details", '{"count": 1}', "--detail", "role_name=admin=all"),
        *("--request", "q", "--session", "s", "--trace", "t", "--run", "r"),
        *("--ip", "192.0.2.1", "--service", "web", "--organization", "o"),
        *("--occurred-at", "2026-01-31T12:00+01:00", "--idempotency-key", "k"),
        url=sqlite_url,
    )
    (event,) = search(sqlite_url)
    body = json.loads(muniment("show", event.event_id, "--format", "json", url=sqlite_url).stdout)
    for name in ("event_id", "recorded_at", "salt", "schema_version"):
        del body[name]
    assert body == {
        "action": "role_assign",
        "tenant_id": "acme",
        "outcome": "denied",
        "reason": "no",
        "actor": {
            "type": "agent",
            "id": "a7",
            "name": "Ops bot",
            "on_behalf_of": {
                "type": "user",
                "id": "u1",
                "on_behalf_of": {"type": "service", "id": "sso"},
            },
        },
        "targets": [{"type": "user", "id": "u2"}, {"type": "role", "id": "r:1"}],
        "details": {"count": 1, "role_name": "admin=all"},
        "context": {
            "request_id": "q",
            "session_id": "s",
            "trace_id": "t",
            "run_id": "r",
            "ip": "192.0.2.1",
            "service": "web",
        },
        "organization_id": "o",
        "occurred_at": "2026-01-31T11:00:00Z",
        "idempotency_key": "k",
    }


def test_the_same_key_records_once(store_url_ready: str) -> None:
    """A command that is run again for safety stores nothing new, and says so."""
    command = ("record", "invoice.pay", "--idempotency-key", "invoice-7")
    first = muniment(*command, url=store_url_ready)
    again = muniment(*command, url=store_url_ready)
    assert again.stdout == first.stdout
    assert "recorded before" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'ACTION'"),
        (("",), "action: is empty"),
        (("a\x00b",), "action: has the control character U+0000"),
        (("a" * 600,), "action: is over 512 bytes"),
        (("login", "--actor", "u1"), "--actor: 'u1' is not TYPE:ID"),
        (("login", "--actor", "robot:u1"), "--actor: 'robot:u1' is not TYPE:ID"),
        (("login", "--actor", "user:"), "--actor: 'user:' is not TYPE:ID"),
        (("login", "--actor-name", "Ann"), "--actor-name and --on-behalf-of need --actor"),
        (("login", "--target", "u2"), "--target: 'u2' is not TYPE:ID"),
        (("login", "--outcome", "fine"), "'fine' is not one of"),
        (("login", "--details", "{"), "--details: is not JSON"),
        (("login", "--details", "[" * 100_000), "--details: is not JSON"),
        (("login", "--details", "[1]"), "--details: is not a JSON object"),
        (("login", "--details", '{"a": NaN}'), "details.a: is nan"),
        (("login", "--details", '{"a": 9007199254740993}'), "details.a: is an integer beyond"),
        (("login", "--detail", "a"), "--detail: 'a' is not KEY=TEXT"),
        (("login", "--detail", "a=1", "--detail", "a=2"), "--detail: 'a' is given twice"),
        (("login", "--occurred-at", "noon"), "--occurred-at: 'noon' is not ISO 8601"),
        (("login", "--occurred-at", "9000-01-01"), "occurred_at: 9000-01-01"),
        (("login", "--occurred-at", "0001-01-01T00:00+09:00"), "occurred_at: is out of the range"),
        (("login", "--ip", "\x1b[31m"), "context.ip: has the control character U+001B"),
        (("log\udcffin",), "action: has the lone surrogate U+DCFF"),
    ],
)
def test_what_cannot_be_recorded_is_one_line_and_exit_code_2(
    sqlite_url: str, arguments: tuple[str, ...], says: str
) -> None:
    """Bad input names the field or option at fault, and nothing is stored."""
    done = muniment("record", *arguments, url=sqlite_url)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr


def test_record_says_when_its_file_cannot_be_made(tmp_path: Path) -> None:
    """A place where nothing can be kept is a failure, told in one line, and no receipt."""
    (tmp_path / "file").touch()
    done = muniment("record", "login", url=f"sqlite:///{tmp_path}/file/audit.db")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_record_waits_in_the_spool_for_a_store_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is kept, and the command says where."""
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path))
    done = muniment("record", "login", url="postgresql://nobody@127.0.0.1:1/none")
    assert done.exit_code == 0
    assert "durable in the spool" in done.stderr
    assert list(tmp_path.rglob("*"))
