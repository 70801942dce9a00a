from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from muniment import Actor, Event, Outcome, Target
from muniment.errors import InvalidEvent
from muniment.importers import AuditLogsImporter, ImportReport, import_events
from muniment.importers.audit_logs import event_of_row
from muniment.log import AuditLog
from tests.cli.running import Done, muniment, prepare, search
from tests.importers.seed_tables import Row, fill_postgres, fill_sqlite, in_postgres

Source = Callable[[Sequence[Row]], str]

_ANN: Final = "11111111-1111-4111-8111-111111111111"
_BOT: Final = "22222222-2222-4222-8222-222222222222"
_NOON: Final = datetime(2025, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)


def _row(number: int, **fields: Any) -> Row:
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "action": "login",
        "details": "{}",
        "agent_id": None,
        "user_id": None,
        "created_at": _NOON,
        **fields,
    }


@pytest.fixture(params=["sqlite", "postgres-text", "postgres-jsonb"])
def seed(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Makes a table of the seed's own columns, and gives its URL."""
    return _source(request, tmp_path, "")


@pytest.fixture(params=["sqlite", "postgres-text", "postgres-jsonb"])
def seed_with_more(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """Makes a table that has tenant_id and ip_address too, and a column that nobody knows."""
    more = ", tenant_id text, ip_address {}, note text"
    return _source(request, tmp_path, more)


def _source(request: pytest.FixtureRequest, tmp_path: Path, more: str) -> Source:
    kind, _, details = str(request.param).partition("-")
    if kind == "sqlite":
        return lambda rows: fill_sqlite(tmp_path / "app.db", more.format("TEXT"), rows)
    url = request.getfixturevalue("postgres_url")
    return lambda rows: fill_postgres(url, details, more.format("inet"), rows)


def _import(source: str, *options: str, url: str) -> Done:
    return muniment("import", "audit-logs", source, *options, url=url)


def test_a_table_is_imported_once_with_its_times(seed: Source, sqlite_url: str) -> None:
    """Every row becomes an event of its own time and id; the second run adds nothing."""
    rows = [_row(n, action=f"tick.{n}", created_at=_NOON.replace(second=n)) for n in range(5)]
    source = seed(rows)
    first, second = _import(source, url=sqlite_url), _import(source, url=sqlite_url)
    assert [first.exit_code, second.exit_code] == [0, 0]
    assert "5 events (5 new, 0 recorded before)" in first.stdout
    assert "5 events (0 new, 5 recorded before)" in second.stdout
    assert [
        (event.action, event.occurred_at, event.idempotency_key) for event in search(sqlite_url)
    ] == [
        (row["action"], row["created_at"], f"audit_logs:audit_logs:{row['id']}")
        for row in reversed(rows)
    ]


def test_rows_of_the_seed_become_whole_events(seed: Source, sqlite_url: str) -> None:
    """Tenant, actor, target, outcome and reason come out of `details`, which stay as they are."""
    details = {
        "provider_type": "feishu",
        "success": False,
        "error": "wrong code",
        "target_user_id": "u2",
        "tenant_id": "青云",
        "organization_id": "org1",
        "n": 1.5,
    }
    text = json.dumps(details, ensure_ascii=False)
    _import(seed([_row(1, details=text, agent_id=_BOT, user_id=_ANN)]), url=sqlite_url)
    (event,) = search(sqlite_url)
    assert event.tenant_id == "青云"
    assert event.actor == Actor.agent(_BOT, on_behalf_of=Actor.user(_ANN))
    assert event.targets == (Target("user", "u2"),)
    assert (event.outcome, event.reason) == (Outcome.FAILURE, "wrong code")
    assert (event.organization_id, event.details) == ("org1", details)


def test_columns_for_tenant_and_address_are_used(seed_with_more: Source, sqlite_url: str) -> None:
    """The column's tenant comes before that of the details; a column nobody knows is kept."""
    beta = '{"tenant_id": "beta"}'
    source = seed_with_more(
        [
            _row(1, details=beta, tenant_id="acme", ip_address="192.0.2.7", note=None),
            _row(2, details=beta, tenant_id=None, ip_address="2001:db8::1", note=None),
            _row(3, tenant_id=None, ip_address=None, note="by hand"),
        ]
    )
    _import(source, url=sqlite_url)
    found = {(e.tenant_id, e.context.ip, json.dumps(e.details)) for e in search(sqlite_url)}
    assert found == {
        ("acme", "192.0.2.7", '{"tenant_id": "beta"}'),
        ("beta", "2001:db8::1", '{"tenant_id": "beta"}'),
        ("system", None, '{"other_columns": {"note": "by hand"}}'),
    }


def test_the_tenant_given_is_everyones(seed: Source, sqlite_url: str) -> None:
    """--tenant says whose the rows are."""
    source = seed([_row(1, details='{"tenant_id": "beta"}'), _row(2)])
    _import(source, "--tenant", "acme", url=sqlite_url)
    assert {event.tenant_id for event in search(sqlite_url)} == {"acme"}


def test_a_sqlite_source_is_left_as_it_is(tmp_path: Path, sqlite_url: str) -> None:
    """Not a byte of the file changes, and no file appears beside it."""
    file = tmp_path / "app" / "app.db"
    file.parent.mkdir()
    source = fill_sqlite(file, "", [_row(n) for n in range(3)])
    before = file.read_bytes()
    _import(source, url=sqlite_url)
    assert (file.read_bytes(), list(file.parent.iterdir())) == (before, [file])


def test_a_postgresql_source_is_read_in_read_only_transactions(
    postgres_url: str, sqlite_url: str
) -> None:
    """A function behind the table that tries to write is refused by the server."""
    fill_postgres(postgres_url, "text", "", [_row(1)])
    meddle = (
        "CREATE FUNCTION meddle() RETURNS text LANGUAGE sql VOLATILE AS $$ INSERT INTO audit_logs "
        "(id, action) VALUES (gen_random_uuid(), 'x') RETURNING action $$"
    )
    trap = (
        "CREATE VIEW trap AS SELECT id, meddle() AS action, details, agent_id, user_id, created_at "
        "FROM audit_logs"
    )
    asyncio.run(in_postgres(postgres_url, meddle, trap))
    done = _import(postgres_url, "--table", "trap", url=sqlite_url)
    assert done.exit_code == 1
    assert "read-only transaction" in done.stderr


def test_broken_rows_are_refused_and_the_rest_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    """A row that can be no event is named; whatever else can be kept of a row is kept."""
    source = fill_sqlite(
        tmp_path / "app.db",
        "",
        [
            _row(1, created_at=None),
            _row(2, created_at="noon"),
            _row(3, action=""),
            _row(4, action=None),
            _row(5, id=None),
            _row(6, created_at=1e300),
            _row(7, created_at="1969-12-31 23:59:59"),
            _row(8, created_at="9998-01-01 00:00:00"),
            _row(11, details="{broken"),
            _row(12, details="[1, 2]"),
            _row(13, details='{"n": NaN, "big": 123456789012345678901234567890}'),
            _row(14, details="[" * 5000),
            _row(15, details=b"\xff\xfe"),
            _row(16, details=None),
            _row(17, details='"\\ud800"'),
            _row(18, action="a" * 2000),
            _row(19, user_id="\x00\x1b"),
            _row(20, details=json.dumps({"bulk": "x" * 300_000})),
        ],
    )
    done = _import(source, url=sqlite_url)
    refused = [line for line in done.stderr.splitlines() if line.startswith("refused ")]
    assert (done.exit_code, len(refused)) == (1, 8)
    assert "18 events (10 new, 0 recorded before, 8 refused)" in done.stdout
    assert len(search(sqlite_url)) == 10


def test_times_that_python_does_not_know_are_refused(postgres_url: str, sqlite_url: str) -> None:
    """`infinity` and years before Christ are told of, with the id of their row."""
    fill_postgres(postgres_url, "text", "", [_row(1), _row(2), _row(3), _row(4)])
    update = "UPDATE audit_logs SET created_at = '{}' WHERE id::text LIKE '%{}'"
    odd = [("infinity", 2), ("-infinity", 3), ("0044-03-15 BC", 4)]
    asyncio.run(in_postgres(postgres_url, *(update.format(*pair) for pair in odd)))
    done = _import(postgres_url, url=sqlite_url)
    assert (done.exit_code, "4 events (1 new, 0 recorded before, 3 refused)" in done.stdout) == (
        1,
        True,
    )


def test_a_table_of_many_pieces_is_read_whole(seed: Source, sqlite_url: str) -> None:
    """Rows of the same time at the border of a piece are neither skipped nor read twice."""
    times = [_NOON.replace(microsecond=n // 1500) for n in range(2300)]
    source = seed([_row(n, created_at=time) for n, time in enumerate(times)])
    done = _import(source, url=sqlite_url)
    assert "2,300 events (2,300 new" in done.stdout


class _Interrupted(Exception):
    """The import ends here, as a power cut would end it."""


def test_an_interrupted_import_goes_on_behind_its_place(seed: Source, sqlite_url: str) -> None:
    """From the position of the last recorded batch the rest follows, and together it is all."""
    source = seed([_row(n, created_at=_NOON.replace(microsecond=n)) for n in range(2500)])
    prepare(sqlite_url)

    def stop(report: ImportReport) -> None:
        raise _Interrupted(report.position)

    async def run() -> ImportReport:
        async with AuditLog.open(sqlite_url) as log:
            with pytest.raises(_Interrupted) as stopped:
                await import_events(log, AuditLogsImporter(source), on_batch=stop)
            rest = AuditLogsImporter(source)
            rest.resume(str(stopped.value))
            return await import_events(log, rest)

    report = asyncio.run(run())
    assert (report.read, report.new, len(search(sqlite_url))) == (1500, 1500, 2500)


def test_the_state_file_is_kept_while_the_import_runs(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an import left behind when it died is where the next one begins; then it is gone."""
    file = tmp_path / "app.db"
    source = fill_sqlite(
        file, "", [_row(n, created_at=_NOON.replace(microsecond=n)) for n in range(1500)]
    )
    state = tmp_path / "place"
    original, calls = AuditLog.record, 0

    async def dies(self: AuditLog, *given: Any, **fields: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1000:
            raise _Interrupted
        return await original(self, *given, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "record", dies)
        with pytest.raises(_Interrupted):
            _import(source, "--state", str(state), url=sqlite_url)
    assert state.exists()
    done = _import(source, "--state", str(state), url=sqlite_url)
    assert "500 events (500 new, 0 recorded before)" in done.stdout
    assert (state.exists(), len(search(sqlite_url))) == (False, 1500)


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        b'{"source":"audit_logs at sqlite:///other.db","tenant_id":null,"position":"[]"}',
        b'{"source":"SOURCE","tenant_id":"acme","position":"[]"}',
        b'{"source":"SOURCE","tenant_id":null,"position":"[[\\"int\\",\\"x\\"]]"}',
    ],
    ids=["no state", "other source", "other tenant", "no position"],
)
def test_the_state_of_another_import_is_refused(
    content: bytes, tmp_path: Path, sqlite_url: str
) -> None:
    """No row is skipped because of a file that says nothing about this import."""
    source = fill_sqlite(tmp_path / "app.db", "", [_row(1)])
    state = tmp_path / "place"
    state.write_bytes(content.replace(b"SOURCE", f"audit_logs at {source}".encode()))
    done = _import(source, "--state", str(state), url=sqlite_url)
    assert (done.exit_code, done.stderr.splitlines()[-1][:9]) == (2, "muniment:")
    assert state.exists()


@pytest.mark.parametrize(
    ("source", "says", "exit_code"),
    [
        ("mysql://x/y", "use sqlite:///file.db or postgresql://", 2),
        ("nonsense", "use sqlite:///file.db or postgresql://", 2),
        ("sqlite:///{here}/app.db --table other", "there is no 'other'", 2),
        ("sqlite:///{here}/app.db --table small", "has no column action, details", 2),
        ("sqlite:///{here}/app.db --table a.b.c", "is no table", 2),
        ("sqlite:///{here}/app.db --table x;DROP", "there is no 'x;DROP'", 2),
        ("sqlite:///{here}/none.db", "there is no such file", 1),
        ("sqlite:///{here}/text.db", "not a database", 1),
        ("postgresql://me:secret@127.0.0.1:1/x", "can't be read", 1),
    ],
)
def test_a_source_that_cannot_be_meant_is_told_of(
    source: str, says: str, exit_code: int, tmp_path: Path, sqlite_url: str
) -> None:
    """The message says what is wrong with the source; no file is made, no password shown."""
    fill_sqlite(tmp_path / "app.db", "", [])
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE small (id INTEGER, created_at TEXT)")
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    done = _import(*source.format(here=tmp_path).split(), url=sqlite_url)
    assert done.exit_code == exit_code
    assert says in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("action", "details", "outcome"),
    [
        ("login", '{"success": true}', Outcome.SUCCESS),
        ("login", '{"success": false}', Outcome.FAILURE),
        ("login", '{"success": "no"}', Outcome.UNKNOWN),
        ("login", "{}", Outcome.UNKNOWN),
        ("login_failed", "{}", Outcome.FAILURE),
        ("login_failed", '{"success": true}', Outcome.SUCCESS),
    ],
)
def test_the_outcome_is_what_details_say(action: str, details: str, outcome: Outcome) -> None:
    """`success` decides; without it, only a name that says `failed` does."""
    assert event_of_row(_row(1, action=action, details=details)).outcome is outcome


@pytest.mark.parametrize(
    "created_at",
    [
        _NOON,
        _NOON.replace(tzinfo=None),
        "2025-03-04 12:00:00.123456",
        "2025-03-04T13:00:00.123456+01:00",
        "2025-03-04 12:00:00.123456 UTC",
        1741089600123456,
    ],
)
def test_the_same_time_is_the_same_however_it_is_kept(created_at: Any) -> None:
    """Without an offset a time is UTC; numbers are Unix time."""
    assert event_of_row(_row(1, created_at=created_at)).occurred_at == _NOON


def test_a_row_without_an_id_is_refused() -> None:
    """It would be stored anew at every import."""
    with pytest.raises(InvalidEvent, match="id: is NULL"):
        event_of_row(_row(1, id=None))


def test_a_row_gives_the_same_event_each_time() -> None:
    """Ids follow from the row: that is what makes an import repeatable."""
    first, second = (event_of_row(_row(1, user_id=_ANN)) for _ in range(2))
    assert isinstance(first, Event)
    assert first.event_id == second.event_id
