from __future__ import annotations

import csv
import io
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import Actor, Change, Context, Event, Outcome, Target
from tests.cli.running import Done, bodies, muniment, prepare, record

_START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _events(count: int, **fields: Any) -> list[Event]:
    return [
        Event(action=f"tick.{n}", occurred_at=_START + timedelta(seconds=n), **fields)
        for n in range(count)
    ]


def _actions(done: Done) -> list[str]:
    return [json.loads(line)["action"] for line in done.stdout.splitlines()]


# --- which events


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A log with four events that have something of each kind in them."""
    url = f"sqlite:///{tmp_path_factory.mktemp('mixed')}/audit.db"
    ann, bot = Actor.user("u1", name="Ann"), Actor.agent("a7", on_behalf_of=Actor.user("u1"))
    record(
        url,
        [
            Event(action="login", tenant_id="acme", actor=ann, outcome=Outcome.SUCCESS),
            Event(action="role_assign", tenant_id="acme", actor=bot, outcome=Outcome.DENIED),
            Event(
                action="role_revoke",
                tenant_id="beta",
                actor=Actor.service("a7"),
                outcome=Outcome.FAILURE,
                targets=(Target("user", "u2"),),
                context=Context(request_id="q1", session_id="s1", trace_id="t1", run_id="r1"),
            ),
            Event(action="tick", occurred_at=_START, details={"note": "Grüße"}),
        ],
    )
    return url


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", {"login", "role_assign", "role_revoke", "tick"}),
        ("--tenant acme", {"login", "role_assign"}),
        ("--action login", {"login"}),
        ("--action role_*", {"role_assign", "role_revoke"}),
        ("--action login --action tick", {"login", "tick"}),
        ("--category role", {"role_assign", "role_revoke"}),
        ("--activity background", {"tick"}),
        ("--activity background --activity reading", {"tick"}),
        ("--actor u1", {"login"}),
        ("--actor a7", {"role_assign", "role_revoke"}),
        ("--actor agent:a7", {"role_assign"}),
        ("--actor a7 --actor-type service", {"role_revoke"}),
        ("--user u1", {"login", "role_assign"}),
        ("--agent a7", {"role_assign"}),
        ("--target u2", {"role_revoke"}),
        ("--target-type user", {"role_revoke"}),
        ("--outcome denied --outcome failure", {"role_assign", "role_revoke"}),
        ("--request q1", {"role_revoke"}),
        ("--session s1", {"role_revoke"}),
        ("--trace t1", {"role_revoke"}),
        ("--run r1", {"role_revoke"}),
        ("--since 2026-01-31T13:00+01:00 --until 2026-01-31T12:00:01Z", {"tick"}),
        ("--since 24h", {"login", "role_assign", "role_revoke"}),
        ("--text Grüße", {"tick"}),
        ("--tenant acme --outcome failure", set()),
        ("action:role_* outcome:denied", {"role_assign"}),
        ("--tenant acme category:authentication", {"login"}),
        ("Grüße", {"tick"}),
    ],
)
def test_each_option_of_search_is_a_condition(mixed: str, options: str, found: set[str]) -> None:
    """All conditions that are given hold for what is found, and nothing else is asked."""
    done = muniment("search", "--format", "jsonl", *options.split(), url=mixed)
    assert set(_actions(done)) == found


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("colour:red", "colour: is no key"),
        ("--tenant acme tenant:beta", "tenant is given twice"),
        ("tenant:acme tenant:beta", "tenant: is given twice"),
    ],
)
def test_conditions_that_make_no_sense_are_bad_use(
    mixed: str, options: str, complaint: str
) -> None:
    """A key that isn't one, or two values where one may be, would find something else."""
    done = muniment("search", *options.split(), url=mixed)
    assert done.exit_code == 2
    assert complaint in done.stderr


def test_search_shows_the_newest_first_and_with_oldest_the_oldest(sqlite_url: str) -> None:
    """The order is that of the events' own times."""
    record(sqlite_url, _events(3))
    newest = _actions(muniment("search", "--format", "jsonl", url=sqlite_url))
    oldest = _actions(muniment("search", "--oldest", "--format", "jsonl", url=sqlite_url))
    assert (newest, oldest) == (["tick.2", "tick.1", "tick.0"], ["tick.0", "tick.1", "tick.2"])


def test_cursors_lead_through_everything_once(sqlite_url: str) -> None:
    """Following `next_cursor` shows each event once, whatever the size of the pages."""
    record(sqlite_url, _events(7))
    seen: list[str] = []
    more: Sequence[str] = ()
    while True:
        done = muniment("search", "--limit", "3", "--format", "json", *more, url=sqlite_url)
        page = json.loads(done.stdout)
        seen += [event["action"] for event in page["events"]]
        if page["next_cursor"] is None:
            break
        more = ("--cursor", page["next_cursor"])
    assert seen == [f"tick.{n}" for n in reversed(range(7))]


def test_a_table_tells_how_to_go_on(sqlite_url: str) -> None:
    """What the hint says to add leads to the next page."""
    record(sqlite_url, _events(3))
    hint = muniment("search", "--limit", "2", url=sqlite_url).stderr
    option = hint.removeprefix("There is more: add ").split()
    rest = muniment("search", "--limit", "2", *option, "--format", "jsonl", url=sqlite_url)
    assert _actions(rest) == ["tick.0"]


def test_all_goes_on_behind_the_first_thousand(sqlite_url: str) -> None:
    """With --all nothing is left out, page after page."""
    record(sqlite_url, _events(2100))
    found = _actions(muniment("search", "--all", "--format", "jsonl", url=sqlite_url))
    assert found == [f"tick.{n}" for n in reversed(range(2100))]


def test_a_limit_over_a_page_is_kept(sqlite_url: str) -> None:
    """`--limit` counts events, not pages."""
    record(sqlite_url, _events(1300))
    done = muniment("search", "--limit", "1200", "--format", "jsonl", url=sqlite_url)
    assert len(_actions(done)) == 1200


# --- formats

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_TEXT = st.none() | st.text(max_size=12) | st.sampled_from(["=1+1", "'=1", "\t@x", "a\r\nb", '",'])


@settings(max_examples=15)
@given(
    st.lists(
        st.builds(
            Event,
            action=st.just("note"),
            occurred_at=st.datetimes(datetime(1971, 1, 1), datetime(2026, 1, 1)).map(  # noqa: DTZ001 - hypothesis wants naive bounds
                lambda moment: moment.replace(tzinfo=UTC)
            ),
            reason=_TEXT,
            actor=st.builds(Actor.user, st.just("u1"), name=_TEXT),
            changes=st.lists(st.builds(Change, field=st.just("f"), old=_JSON, new=_JSON)),
            details=st.dictionaries(st.text(max_size=5), _JSON, max_size=3),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_jsonl_and_csv_lose_nothing(events: list[Event]) -> None:
    """JSONL is the stored bodies byte for byte; a CSV cell, its guard taken off, is whole."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/audit.db"
        record(url, events)
        lines = muniment("search", "--all", "--format", "jsonl", url=url).raw
        sheet = muniment("search", "--all", "--format", "csv", url=url).raw.decode()
        stored = bodies(url)
    assert lines == b"".join(body + b"\n" for body in stored)
    rows = list(csv.DictReader(io.StringIO(sheet, newline="")))
    cells = [(row["reason"], row["actor_name"], row["details"]) for row in rows]
    parsed = [json.loads(body) for body in stored]
    assert [tuple(cell.removeprefix("'") for cell in row[:2]) for row in cells] == [
        (body.get("reason", ""), body["actor"].get("name", "")) for body in parsed
    ]
    assert [json.loads(row[2]) for row in cells] == [body.get("details", {}) for body in parsed]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_of_a_csv_begins_like_a_formula(sqlite_url: str, begin: str) -> None:
    """A spreadsheet that opens the file runs nothing that an event's source wrote."""
    formula = f"{begin}HYPERLINK(0)"
    record(sqlite_url, [Event(action="a", reason=formula, actor=Actor.user("=u", name=formula))])
    sheet = muniment("search", "--format", "csv", url=sqlite_url).stdout
    (row,) = csv.DictReader(io.StringIO(sheet, newline=""))
    assert [row[name][0] for name in ("reason", "actor_name", "actor_id")] == ["'", "'", "'"]


def test_formats_without_events_are_whole(sqlite_url: str) -> None:
    """Nothing found is an empty table, file, sheet or object, and no failure."""
    prepare(sqlite_url)
    found = {f: muniment("search", "--format", f, url=sqlite_url) for f in ("jsonl", "csv", "json")}
    assert {done.exit_code for done in found.values()} == {0}
    assert found["jsonl"].stdout == ""
    assert found["csv"].stdout.startswith("event_id,occurred_at,")
    assert json.loads(found["json"].stdout) == {"events": [], "next_cursor": None}
    assert muniment("search", url=sqlite_url).stderr == "No events found.\n"


def test_with_ids_each_line_leads_to_its_event(sqlite_url: str) -> None:
    """What stands first in a line of `search --ids` is what `show` takes."""
    record(sqlite_url, _events(2))
    lines = muniment("search", "--ids", url=sqlite_url, columns=60).stdout.splitlines()
    shown = [muniment("show", line.split()[0], url=sqlite_url).stdout for line in lines]
    assert ["tick.1" in shown[0], "tick.0" in shown[1]] == [True, True]


# --- bad use


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--limit 0", "--limit"),
        ("--limit many", "--limit"),
        ("--outcome fine", "'fine' is not one of"),
        ("--category fun", "'fun' is not one of"),
        ("--format xml", "'xml' is not one of"),
        ("--since yesterday", "--since: 'yesterday' is neither"),
        ("--until 2026-13-01", "--until: '2026-13-01' is neither"),
        ("--action a*b", "--action: 'a*b': a * may stand at the end only"),
        ("--cursor abc", "--cursor: isn't one"),
        ("--actor user:u1 --actor-type agent", "say different things"),
        ("--colour red", "No such option"),
        ("--tenant", "requires an argument"),
        ("--tenant=", "--tenant: is empty"),
        ("--text=\udcff", "--text: has a lone surrogate"),
    ],
)
def test_a_bad_search_is_one_line_and_exit_code_2(mixed: str, options: str, says: str) -> None:
    """The line names the option at fault."""
    done = muniment("search", *options.split(), url=mixed)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr


def test_a_cursor_of_another_search_is_refused(sqlite_url: str) -> None:
    """A cursor goes with its filter: nothing is skipped by mistake."""
    record(sqlite_url, _events(3))
    page = json.loads(muniment("search", "--limit=1", "--format=json", url=sqlite_url).stdout)
    done = muniment("search", "--oldest", "--cursor", page["next_cursor"], url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("command", ["search", "stats", "db status", "show x", "tail"])
def test_reading_makes_no_database(tmp_path: Path, command: str) -> None:
    """A mistyped name leaves no file behind, and the message says what to do."""
    done = muniment(*command.split(), url=f"sqlite:///{tmp_path}/audit.db")
    assert done.exit_code == 1
    assert "there is no database" in done.stderr
    assert "--url" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["search", "stats", "show x", "tail"])
def test_reading_makes_no_log_of_another_database(tmp_path: Path, command: str) -> None:
    """A database of something else gets no table of ours from being looked into."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (id INTEGER)")
    connection.commit()
    done = muniment(*command.split(), url=f"sqlite:///{path}")
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert (done.exit_code, tables) == (1, [("other",)])
    assert "db upgrade" in done.stderr


def test_reading_a_postgresql_database_without_a_log_says_what_to_do(postgres_url: str) -> None:
    """The message names the command that makes the schema."""
    done = muniment("search", url=postgres_url)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "db upgrade" in done.stderr


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    """No traceback, whatever the file is."""
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    done = muniment("search", url=f"sqlite:///{tmp_path}/text.db")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    "url", ["", "nothing", "mysql://x", "sqlite://", "sqlite:///:memory:", "mysql://[bad"]
)
def test_a_url_of_no_store_is_bad_use(url: str) -> None:
    """The message shows the forms that there are."""
    done = muniment("--url", url, "search")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "postgresql://" in done.stderr or "sqlite:////" in done.stderr


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:secret@127.0.0.1:1/x", "postgresql://me:secret@[bad", "mysql://me:secret@x"],
)
def test_a_password_is_never_shown(url: str) -> None:
    """An error tells of the place, not of the password."""
    done = muniment("search", url=url)
    assert done.exit_code in {1, 2}
    assert "secret" not in done.stdout + done.stderr
