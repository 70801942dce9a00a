from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from muniment import AuditLog, Event, InvalidConfig, configure, default_log, write_audit_log
from muniment.spool import Spool
from muniment.stores import open_store
from tests.servers.postgres import PostgresServer

_PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _default_log_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    default = default_log._DefaultLog()
    monkeypatch.setattr(default_log, "_default", default)
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path / "spool"))
    yield
    default.end(for_good=False)


@pytest.fixture
def url(store_url: str) -> Iterator[str]:
    """A store of each kind, ready; the default log is over it."""
    asyncio.run(_upgrade(store_url))
    configure(store_url)
    yield store_url
    default_log._default.end(for_good=False)


async def _upgrade(url: str) -> None:
    store = open_store(url)
    await store.upgrade()
    await store.close()


async def _actions(log: AuditLog) -> list[str]:
    page = await log.search(order="oldest", limit=500)
    return sorted(event.action for event in page.events)


async def actions_in(url: str) -> list[str]:
    """The actions recorded in a store, sorted."""
    async with AuditLog.open(url) as log:
        return await _actions(log)


async def wait_for_actions(url: str, wanted: list[str]) -> None:
    """Wait until the store has these actions: what is in the spool comes there by itself."""
    until = time.monotonic() + _PATIENCE
    async with AuditLog.open(url) as log:
        while True:
            found = await _actions(log)
            if found == wanted:
                return
            assert time.monotonic() < until, found
            await asyncio.sleep(0.05)


def spooled(directory: Path) -> list[str]:
    """The bodies that wait in the spools under a directory."""
    bodies = []
    for base in directory.iterdir():
        spool = Spool(base)
        spool.adopt_orphans()
        bodies += [sealed.body.decode() for sealed in spool.peek(1000)]
        spool.close()
    return bodies


def run_script(script: str, *arguments: str) -> str:
    """What a Python process of its own prints; it must end well, and within a minute."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- loops, threads, processes


def test_a_second_event_loop_goes_on_with_the_same_log(url: str) -> None:
    """Each `asyncio.run` has a loop of its own; the log outlasts them."""
    for action in ("one", "two", "three"):
        asyncio.run(write_audit_log(action))
    assert asyncio.run(actions_in(url)) == ["one", "three", "two"]


def test_loops_in_several_threads_share_the_log(url: str) -> None:
    """Each thread records from its own loop, at the same time as the others."""

    async def write(name: int) -> None:
        await asyncio.gather(*(write_audit_log(f"t{name}") for _ in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(write(name),)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    assert asyncio.run(actions_in(url)) == [f"t{name}" for name in range(4) for _ in range(20)]


def test_concurrent_callers_share_commits(sqlite_url: str) -> None:
    """Hand-offs that come together are committed together, though each caller waits for its own."""
    configure(sqlite_url)

    async def write() -> dict[str, Any]:
        await write_audit_log("first")
        await asyncio.gather(*(write_audit_log("x") for _ in range(300)))
        thread = default_log._default._running
        assert thread is not None
        stats = asyncio.run_coroutine_threadsafe(thread._log.stats(), thread._loop)
        return await asyncio.wrap_future(stats)

    recorded = asyncio.run(write())["recorded"]
    assert recorded["stored"] == 301
    assert recorded["batches"] < 30


_FORK = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
from muniment import configure, write_audit_log

configure(sys.argv[1])
asyncio.run(write_audit_log("before"))
child = os.fork()
if not child:
    asyncio.run(write_audit_log("child"))
    os._exit(0)
asyncio.run(write_audit_log("parent"))
_, status = os.waitpid(child, 0)
asyncio.run(write_audit_log("after"))
print(status)
"""


def test_a_forked_child_records_beside_its_parent(url: str) -> None:
    """The child opens a log of its own; the parent's goes on as if nothing had been."""
    assert run_script(_FORK, url) == "0\n"
    assert asyncio.run(actions_in(url)) == ["after", "before", "child", "parent"]


_FORK_IN_THE_MIDDLE = """
import asyncio, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
from muniment import configure, write_audit_log

configure(sys.argv[1])

async def many(action, count):
    for _ in range(count):
        await write_audit_log(action)

asyncio.run(many("first", 1))
busy = threading.Thread(target=lambda: asyncio.run(many("parent", 100)))
busy.start()
children = []
for _ in range(5):
    child = os.fork()
    if not child:
        asyncio.run(many("child", 4))
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
busy.join()
"""


def test_forks_in_the_middle_of_recording_lose_nothing(url: str) -> None:
    """Locks and transactions that the parent holds at that moment are no matter to the child."""
    assert run_script(_FORK_IN_THE_MIDDLE, url) == "[0, 0, 0, 0, 0]\n"
    wanted = ["child"] * 20 + ["first"] + ["parent"] * 100
    asyncio.run(wait_for_actions(url, wanted))


_DAEMON = """
import asyncio, os, subprocess, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
from muniment import configure, write_audit_log

url, file = sys.argv[1:]
look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
look += "c.execute('SELECT count(*) FROM muniment_events').fetchone(); c.close()"
configure(url)
asyncio.run(write_audit_log("parent"))
reading, writing = os.pipe()
if os.fork():
    sys.exit()
os.close(writing)
asyncio.run(write_audit_log("child 1"))
os.read(reading, 1)  # returns when the parent has ended
subprocess.run([sys.executable, "-c", look, file], check=True)
asyncio.run(write_audit_log("child 2"))
subprocess.run([sys.executable, "-c", look, file], check=True)
os._exit(0)
"""


def test_a_child_that_outlives_its_parent_keeps_what_it_records(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Others that open and close the file do not remove the write-ahead log under the child."""
    run_script(_DAEMON, sqlite_url, str(tmp_path / "audit.db"))
    asyncio.run(wait_for_actions(sqlite_url, ["child 1", "child 2", "parent"]))


# --- the end of the process

_CANCELLED = """
import asyncio, sys
from muniment import configure, write_audit_log

async def main():
    configure(sys.argv[1])
    writing = asyncio.ensure_future(write_audit_log("cancelled"))
    await asyncio.sleep(0)
    writing.cancel()

asyncio.run(main())
"""


def test_what_was_handed_over_is_durable_when_the_process_ends(url: str) -> None:
    """Even an event whose caller was cancelled at once is recorded before the process is gone."""
    run_script(_CANCELLED, url)
    assert asyncio.run(actions_in(url)) == ["cancelled"]


_MULTIPROCESSING = """
import asyncio, multiprocessing, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
from muniment import configure, write_audit_log

async def leave():
    writing = asyncio.ensure_future(write_audit_log("child"))
    await asyncio.sleep(0)
    writing.cancel()

configure(sys.argv[1])
asyncio.run(write_audit_log("parent"))
child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(leave()))
child.start()
child.join()
print(child.exitcode)
"""


def test_a_child_of_multiprocessing_ends_well_too(url: str) -> None:
    """What such a child handed over is durable when it ends, although it runs no atexit."""
    assert run_script(_MULTIPROCESSING, url) == "0\n"
    assert asyncio.run(actions_in(url)) == ["child", "parent"]


_AT_EXIT = """
import asyncio, atexit, sys
from muniment import configure, write_audit_log

configure(sys.argv[1])
atexit.register(lambda: asyncio.run(write_audit_log("at exit")))
asyncio.run(write_audit_log("before"))
"""


def test_an_event_of_an_atexit_function_waits_in_the_spool(url: str) -> None:
    """When threads can't be used any more the spool still takes it; the next log brings it in."""
    run_script(_AT_EXIT, url)
    asyncio.run(wait_for_actions(url, ["at exit", "before"]))


_STORE_DOWN = """
import asyncio, logging, sys
from muniment import configure, write_audit_log

logging.disable()
configure(sys.argv[1])
asyncio.run(write_audit_log("x"))
"""


def test_a_process_ends_while_the_store_is_down(tmp_path: Path) -> None:
    """What can't be stored is in the spool, and the end of the process does not wait for more."""
    run_script(_STORE_DOWN, _nowhere())
    (body,) = spooled(tmp_path / "spool")
    assert '"action":"x"' in body


def _nowhere() -> str:
    """The URL of a PostgreSQL that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"postgresql://nobody@127.0.0.1:{port}/nothing"


# --- stores in trouble


@pytest.fixture
async def hanging_url(private_postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of a ready PostgreSQL of the test's own; the default log waits 0.2 s for it."""
    url = private_postgres.url(private_postgres.create_database())
    await _upgrade(url)
    configure(url, deadline=0.2)
    yield url
    await asyncio.to_thread(default_log._default.end, for_good=False)


async def test_a_store_that_hangs_from_the_start_costs_the_deadline(
    hanging_url: str, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """The first event is in the spool when its call returns, and in the store once it is back."""
    with private_postgres.hung():
        await asyncio.wait_for(write_audit_log("x"), _PATIENCE)
        assert list((tmp_path / "spool").rglob("*.segment"))
    await wait_for_actions(hanging_url, ["x"])


async def test_a_store_that_begins_to_hang_costs_the_deadline(
    hanging_url: str, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """So it is for a log that had been storing, and order is kept when it goes on."""
    await write_audit_log("a")
    with private_postgres.hung():
        await asyncio.wait_for(write_audit_log("b"), _PATIENCE)
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
    await _upgrade(postgres_url)
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
    configure(_nowhere(), spool_dir=in_the_way)
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
        let_go.wait(_PATIENCE)
        return event

    configure(sqlite_url, deadline=0.05, processors=[stuck])
    await asyncio.wait_for(write_audit_log("x"), _PATIENCE)
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
    before = threading.active_count()
    configure(f"sqlite:///{tmp_path}/audit.db")
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


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
