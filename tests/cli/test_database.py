from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from muniment import Event
from tests.cli.running import Done, muniment, record

_NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/none"


@pytest.fixture
def at_revision(sqlite_url: str) -> Callable[[str], str]:
    """A log in SQLite whose schema says that it is another one."""

    def make(revision: str) -> str:
        record(sqlite_url, [Event(action="login")])
        with closing(sqlite3.connect(Path(sqlite_url.removeprefix("sqlite:///")))) as connection:
            connection.execute("UPDATE muniment_schema_version SET version_num = ?", (revision,))
            connection.commit()
        return sqlite_url

    return make


def test_upgrade_makes_the_schema_and_again_changes_nothing(store_url: str) -> None:
    """`db upgrade` brings any database up to date; run twice it succeeds twice."""
    first, second = (
        muniment("db", "upgrade", url=store_url),
        muniment("db", "upgrade", url=store_url),
    )
    assert (first.exit_code, second) == (0, first)
    assert muniment("db", "status", url=store_url).exit_code == 0


def test_status_without_a_schema_names_the_command(postgres_url: str) -> None:
    """A database that needs an upgrade is exit code 1 and says which command does it."""
    done = muniment("db", "status", url=postgres_url)
    assert (done.exit_code, done.stderr) == (1, "")
    assert "schema none" in done.stdout
    assert "db upgrade" in done.stdout


@pytest.mark.parametrize("command", ["db status", "db upgrade", "search", "record login"])
def test_a_newer_schema_is_left_alone(at_revision: Callable[[str], str], command: str) -> None:
    """Every command says that a newer muniment is wanted."""
    done = muniment(*command.split(), url=at_revision("9999"))
    assert done.exit_code == 1
    assert "newer muniment" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", ["search", "show x", "tail --after x --no-follow", "db status", "db upgrade"]
)
def test_a_store_that_is_down_is_one_line(command: str) -> None:
    """The place is named, the password isn't, and nothing is printed as if it were a result."""
    done = muniment(*command.split(), url=_NOWHERE)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("muniment: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def _figure(done: Done, name: str) -> str:
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name}  "))
    return line.removeprefix(name).strip()


def test_stats_are_read_by_people_and_programs(sqlite_url: str) -> None:
    """The table and the JSON object hold the same figures."""
    record(sqlite_url, [Event(action="tick") for _ in range(1200)])
    figures = json.loads(muniment("stats", "--format", "json", url=sqlite_url).stdout)
    table = muniment("stats", url=sqlite_url)
    assert figures["store"]["events"] == 1200
    assert _figure(table, "store events") == "1,200"
    assert _figure(table, "spool pending") == "0"
    assert figures["health"] == {"state": "ok", "problems": []}
    assert _figure(table, "health problems") == "none"


def test_stats_of_postgresql_hide_the_password(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The store is named, without what would let others in."""
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path))
    muniment("db", "upgrade", url=postgres_url)
    place, _, host = postgres_url.partition("@")
    with_password = f"{place}:secret@{host}" if host else postgres_url
    shown = muniment("stats", url=with_password).stdout
    assert "store url" in shown
    assert "secret" not in shown


def test_stats_of_a_store_that_is_down_show_the_spool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What waits on this machine is shown all the same; the exit code says that all is not well."""
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path))
    muniment("record", "login", url=_NOWHERE)
    done = muniment("stats", url=_NOWHERE)
    assert done.exit_code == 1
    assert "unavailable" in done.stdout
    assert _figure(done, "spool pending") == "1"
    assert _figure(done, "health state") == "degraded"
    assert "events go to the spool; waiting there: 1; the store fails" in done.stdout
