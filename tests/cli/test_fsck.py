from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
from pathlib import Path

import pytest

from muniment.fsck.growth import TreeChecker
from tests.cli.running import muniment
from tests.proofs.live import extend
from tests.proofs.trails import LOG_KEY, WITNESS_KEY

_KEY = LOG_KEY.verifier.text()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite log of two tenants, with 30 and 2 events, under a checkpoint each."""
    url = f"sqlite:///{tmp_path / 'audit.db'}"

    async def build() -> None:
        await extend(url, 30)
        await extend(url, 2, tenant_id="globex")

    asyncio.run(build())
    return url


def _delete(url: str, condition: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("DROP TRIGGER muniment_events_refuse_delete")
        connection.execute(f"DELETE FROM muniment_events WHERE {condition}")
    connection.close()


def test_a_log_that_is_as_it_was(url: str) -> None:
    """It says what was looked at, and exits with 0."""
    done = muniment("fsck", "--key", _KEY, url=url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "looked at: 2 trees, 32 events (0 erased), 0 without a leaf yet, 2 checkpoints, "
        "2 signatures\nall agree\n"
    )


def test_a_difference_is_a_line_and_exit_code_1(url: str) -> None:
    """The line names the tenant and the event."""
    _delete(url, "tenant_id = 'globex' AND seq = 31")
    done = muniment("fsck", url=url)
    assert done.exit_code == 1
    assert re.fullmatch(
        r"globex: missing: event [0-9a-f-]{36}: it is gone, and was leaf 0\n"
        r"muniment: the log is not what it was: 1 difference\n",
        done.stderr,
    )
    assert done.stdout.endswith(", no signatures (no --key)\n")


def test_of_many_differences_some_are_shown(url: str) -> None:
    """All of them are counted."""
    _delete(url, "seq > 3")
    done = muniment("fsck", "--limit", 4, url=url)
    *lines, acme, all_of_them = done.stderr.splitlines()
    assert len(lines) == 4 + 2
    assert acme == "acme: and 23 more"
    assert all_of_them == "muniment: the log is not what it was: 29 differences"
    assert done.exit_code == 1


def test_one_tenant(url: str) -> None:
    """What is wrong with others is not looked at."""
    _delete(url, "tenant_id = 'globex'")
    done = muniment("fsck", "--tenant", "acme", url=url)
    assert done.exit_code == 0
    assert "1 tree, 30 events" in done.stdout


def test_a_tenant_that_nobody_knows_is_not_well(url: str) -> None:
    """Its name may be misspelt."""
    done = muniment("fsck", "--tenant", "acne", url=url)
    assert done.exit_code == 1
    assert "tenant acne has no event" in done.stderr


@pytest.mark.parametrize("key", ["nonsense", WITNESS_KEY.verifier.text()])
def test_a_key_that_is_none_of_a_log(url: str, key: str) -> None:
    """That is bad use."""
    assert muniment("fsck", "--key", key, url=url).exit_code == 2


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Looking leaves nothing behind."""
    path = tmp_path / "nothing.db"
    done = muniment("fsck", url=f"sqlite:///{path}")
    assert done.exit_code == 1
    assert "there is no database" in done.stderr
    assert not path.exists()


def test_an_interrupted_run_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C keeps how far it came in the file, and says so; a run that ends removes it."""
    state = tmp_path / "state"
    check = TreeChecker.check

    async def interrupted(self: TreeChecker, tenant_id: str) -> None:
        if tenant_id == "globex":
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)  # the loop cancels us now
        await check(self, tenant_id)

    # A shell that starts us in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(TreeChecker, "check", interrupted)
            done = muniment("fsck", "--resume", state, url=url)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130
    assert done.stderr == f"interrupted; the same command goes on from {state}\n\n"
    assert done.stdout == ""
    assert state.exists()
    done = muniment("fsck", "--resume", state, url=url)
    assert done.exit_code == 0
    assert "2 trees, 32 events" in done.stdout
    assert not state.exists()
