from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from muniment import Event, InvalidConfig, configure, default_log, write_audit_log
from tests.default_log.recorded import (
    PATIENCE,
    actions_in,
    nowhere,
    spooled,
    upgrade,
    wait_for_actions,
)
from tests.servers.postgres import PostgresServer

# --- stores in trouble


@pytest.fixture
async def hanging_url(private_postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a ready PostgreSQL of the test's own; the default log waits 0.2 s for it."""
    url = private_postgres.url(private_postgres.create_database())
    await upgrade(url)
    configure(url, deadline=0.2)
    yield url
    await asyncio.to_thread(default_log._default.end, for_good=False)


async def test_a_store_that_hangs_from_the_start_costs_the_deadline(
    hanging_url: str, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """The first event is in the spool when its call returns, and in the store once it is back."""
    with private_postgres.hung():
        await asyncio.wait_for(write_audit_log("x"), PATIENCE)
        assert list((tmp_path / "spool").rglob("*.segment"))
    await wait_for_actions(hanging_url, ["x"])


async def test_a_store_that_begins_to_hang_costs_the_deadline(
    hanging_url: str, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """So it is for a log that had been storing, and order is kept when it goes on."""
    await write_audit_log("a")
    with private_postgres.hung():
        await asyncio.wait_for(write_audit_log("b"), PATIENCE)
        assert list((tmp_path / "spool").rglob("*.segment"))
    await write_audit_log("c")
    await wait_for_actions(hanging_url, ["a", "b", "c"])


async def test_a_store_without_its_schema_is_waited_for(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Events go to the spool, the error says what to do, and once that is done they are stored."""
    configure(postgres_url)
    await write_audit_log("early")
    assert "db upgrade" in caplog.text
    await upgrade(postgres_url)
    await wait_for_actions(postgres_url, ["early"])


async def test_a_sqlite_file_whose_directory_comes_later_is_waited_for(tmp_path: Path) -> None:
    """A store that could not be opened is checked and migrated when it can be."""
    url = f"sqlite:///{tmp_path}/later/audit.db"
    configure(url)
    await write_audit_log("early")
    (tmp_path / "later").mkdir()
    await wait_for_actions(url, ["early"])


async def test_neither_store_nor_spool_raises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where an event can go nowhere, that is logged, and the caller goes on."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    configure(nowhere(), spool_dir=in_the_way)
    await write_audit_log("x")
    assert "events are lost" in caplog.text


async def test_a_log_that_can_not_even_try_to_open_spools(sqlite_url: str, tmp_path: Path) -> None:
    """An error that no store should raise costs no event either."""
    configure(sqlite_url.replace("audit.db", "a%00.db"), spool_dir=tmp_path / "spool" / "here")
    await write_audit_log("x")
    (body,) = spooled(tmp_path / "spool")
    assert '"action":"x"' in body


async def test_a_caller_does_not_wait_for_a_log_that_is_stuck(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The wait is bounded even where nothing should ever be stuck, and that is logged."""
    monkeypatch.setattr(default_log, "_GRACE", 0.0)
    let_go = threading.Event()

    def stuck(event: Event) -> Event:
        let_go.wait(PATIENCE)
        return event

    configure(sqlite_url, deadline=0.05, processors=[stuck])
    await asyncio.wait_for(write_audit_log("x"), PATIENCE)
    let_go.set()
    assert "handed over, but is not durable" in caplog.text
    await wait_for_actions(sqlite_url, ["x"])


async def test_a_processor_that_raises_does_not_reach_the_caller(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it was to redact must not be recorded; the loss is counted, as in any log."""

    def broken(event: Event) -> Event:
        raise LookupError(event.action)

    configure(sqlite_url, processors=[broken])
    await write_audit_log("x")
    assert "an event is lost" in caplog.text
    await wait_for_actions(sqlite_url, ["audit.loss"])


# --- configuration


async def test_configure_again_makes_the_former_log_durable_first(tmp_path: Path) -> None:
    """Events that were handed over go to the store of that time, later ones to the new one."""
    one, two = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two"))
    configure(one)
    writing = [asyncio.ensure_future(write_audit_log(f"{n:03}")) for n in range(100)]
    await asyncio.sleep(0)
    configure(two)
    assert len(await actions_in(one)) == 100
    await write_audit_log("later")
    await asyncio.gather(*writing)
    assert await actions_in(one) == [f"{n:03}" for n in range(100)]
    assert await actions_in(two) == ["later"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("mysql://localhost/audit", {}),
        ("http://[", {}),
        ("sqlite://", {}),
        (5, {}),
        ("sqlite:///a.db", {"deadline": -1}),
        ("sqlite:///a.db", {"deadline": "soon"}),
        ("sqlite:///a.db", {"max_details_bytes": 0}),
        ("sqlite:///a.db", {"tenant_id": "a\0"}),
        ("sqlite:///a.db", {"tenant_id": ["a"]}),
        ("sqlite:///a.db", {"no_such_option": 1}),
        ("sqlite:///a.db", {"store_options": {"no_such_option": 1}}),
        ("sqlite:///a.db", {"tenant_of": "acme"}),
    ],
)
async def test_a_bad_configuration_is_refused_at_once(
    sqlite_url: str, url: Any, options: dict[str, Any]
) -> None:
    """It raises `InvalidConfig`, and the log goes on as it was configured before."""
    configure(sqlite_url)
    with pytest.raises(InvalidConfig):
        configure(url, **options)
    await write_audit_log("x")
    assert await actions_in(sqlite_url) == ["x"]


def test_a_coroutine_function_is_no_resolver(sqlite_url: str) -> None:
    """It would never be awaited, and every event would be one of `system`."""

    async def tenant_of() -> str:
        return "acme"

    with pytest.raises(InvalidConfig):
        configure(sqlite_url, tenant_of=tenant_of)


def test_nothing_is_connected_before_the_first_event(tmp_path: Path) -> None:
    """`configure` touches neither the store nor the disk, and starts no thread."""
    before = set(threading.enumerate())  # some of them may be ending
    configure(f"sqlite:///{tmp_path}/audit.db")
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= before


async def test_the_environment_names_the_store(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `configure`, and with one that gives no URL, `MUNIMENT_URL` says where."""
    monkeypatch.setenv("MUNIMENT_URL", sqlite_url)
    await write_audit_log("one")
    configure()
    await write_audit_log("two")
    assert await actions_in(sqlite_url) == ["one", "two"]


async def test_without_any_configuration_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is `muniment.db` in the working directory."""
    monkeypatch.chdir(tmp_path)
    await write_audit_log("x")
    assert await actions_in(f"sqlite:///{tmp_path}/muniment.db") == ["x"]


async def test_an_environment_that_names_no_store_breaks_no_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The write function returns, and the error is logged once for all events that follow."""
    monkeypatch.setenv("MUNIMENT_URL", "mysql://u:secret@localhost/audit")
    for _ in range(3):
        await write_audit_log("x")
    (logged,) = caplog.messages
    assert "names no store" in logged
    assert "secret" not in logged


async def test_a_logging_handler_that_raises_breaks_no_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even the report of a failure reaches the caller as an exception."""
    monkeypatch.setenv("MUNIMENT_URL", "mysql://localhost/audit")

    def broken(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr("logging.Logger.handle", broken)
    await write_audit_log("x")
