"""What is SQLite's own in its trees: foreign bytes in the file, files that are none, the lock."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from muniment.errors import StoreError
from muniment.fsck import Finding, fsck
from muniment.growing import grow
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.sqlite.trees import _snapshot
from muniment.testing.contract import sealed
from muniment.testing.trees_contract import integrate_all, leaves

_HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest_asyncio.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    """An open store without events."""
    store = open_store(sqlite_url)
    await store.open()
    yield store
    await store.close()


def _insert(path: Path, tenant_id: str, body: str = "'{}'", *, drop: bool = False) -> None:
    """Put an event in by hand; with `drop`, as somebody who removes what would refuse it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        if drop:
            connection.execute("DROP TRIGGER muniment_events_refuse_tenant_id")
        connection.execute(
            "INSERT INTO muniment_events (tenant_id, event_id, leaf_hash, terms, body) "
            f"VALUES ({tenant_id}, randomblob(16), randomblob(32), 'x', {body})"
        )


def _open_files() -> list[str]:
    """What this process's descriptors lead to."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one of this very directory
            found.append(str(link.readlink()))
    return found


@pytest.mark.parametrize(
    ("tenant_id", "named"), [("X'61636D65'", "b'acme'"), ("CAST(X'FF' AS TEXT)", "\ufffd")]
)
async def test_a_tenant_that_can_not_be_read_stops_no_other(
    store: Store, tmp_path: Path, tenant_id: str, named: str
) -> None:
    """Every event gets its leaf; that one's is in a tree that is named as fsck names it."""
    batch = [sealed(n) for n in range(4)]
    await store.append(batch[:2])
    _insert(tmp_path / "audit.db", tenant_id, drop=True)
    await store.append(batch[2:])
    assert await integrate_all(store) == 5
    assert await leaves(store) == [event.leaf_hash for event in batch]
    found: list[Finding] = []
    await fsck(store, tell=found.append)
    assert {each.tenant_id for each in found} == {named}
    assert len(await leaves(store, named)) == 1


@pytest.mark.parametrize(
    "body",
    [
        "'not json'",
        "NULL",
        "'7'",
        """'{"recorded_at":7}'""",
        """'{"recorded_at":"soon"}'""",
        """CAST(X'7B227265636F726465645F6174223A22FF227D' AS TEXT)""",
    ],
)
async def test_lag_of_a_body_that_tells_no_time(store: Store, tmp_path: Path, body: str) -> None:
    """Then the event_id tells it."""
    with closing(sqlite3.connect(tmp_path / "audit.db")) as connection, connection:
        connection.execute(
            "INSERT INTO muniment_events (tenant_id, event_id, leaf_hash, terms, body) "
            f"VALUES ('acme', zeroblob(16), zeroblob(32), 'x', {body})"
        )
    assert (await store.trees.lag()).seconds > 50 * 365 * 86_400  # since 1970


async def test_a_file_that_is_no_database_costs_no_descriptors(tmp_path: Path) -> None:
    """However often it is tried, nothing that was opened for it stays open."""
    path = tmp_path / "audit.db"
    path.write_bytes(b"x" * 8192)
    store = open_store(f"sqlite:///{path}")
    for _ in range(50):
        with pytest.raises(StoreError, match="not a database"):
            await store.trees.tree("acme")
    opened = _open_files()
    await store.close()
    assert str(path) not in opened


async def test_another_process_that_integrates_is_left_to_it(store: Store, tmp_path: Path) -> None:
    """While it does, nothing is done here; once it has ended, its work is taken on."""
    await store.append([sealed(1)])
    lock_file = tmp_path / "audit.db-sequencer"
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", _HOLDER, lock_file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert await store.trees.integrate(10, grow) == 0
        assert await store.trees.tree("acme") is None
        holder.communicate("", timeout=30)
    assert await store.trees.integrate(10, grow) == 1


def test_the_first_error_in_a_snapshot_is_told() -> None:
    """SQLite ends a transaction itself after some errors: that there is none left is no news."""

    def fail(connection: sqlite3.Connection) -> None:
        with _snapshot(connection):
            connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk I/O error")

    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
        pytest.raises(sqlite3.OperationalError, match="disk I/O error"),
    ):
        fail(connection)
