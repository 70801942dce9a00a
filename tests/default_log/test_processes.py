"""The default log in several loops, threads and processes, and as a process ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from muniment import configure, default_log, write_audit_log
from tests.default_log.recorded import PATIENCE, actions_in, nowhere, spooled, wait_for_actions


def run_script(script: str, *arguments: str) -> str:
    """What a Python process of its own prints; it must end well, and within a minute."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
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
        thread.join(PATIENCE)
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
    asyncio.run(wait_for_actions(url, ["after", "before", "child", "parent"]))


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
    asyncio.run(wait_for_actions(url, ["cancelled"]))


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
    asyncio.run(wait_for_actions(url, ["child", "parent"]))


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
    run_script(_STORE_DOWN, nowhere())
    (body,) = spooled(tmp_path / "spool")
    assert '"action":"x"' in body
