from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from muniment.anchors import anchors_from
from muniment.keys import write_key
from tests.cli.running import PROGRAM, environment, muniment
from tests.proofs.live import extend
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, WITNESS_KEY, Trail
from tests.proofs.witness_process import running_witness

_VKEY = LOG_KEY.verifier.text()


def _extend(url: str, count: int, tenant_id: str = "acme") -> None:
    asyncio.run(extend(url, count, tenant_id=tenant_id))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where a watch remembers; nothing is there yet."""
    return tmp_path / "memory"


# --- witness


def test_a_witness_says_who_it_is_and_where(tmp_path: Path) -> None:
    """Its public key and its address are what a log is told, as one URL."""

    async def anchored(url: str) -> str | None:
        (anchor,) = anchors_from([url])
        try:
            return await anchor.anchor(Trail().checkpoint(5), Trail().prove)
        finally:
            await anchor.close()

    with running_witness(tmp_path) as process:
        line = asyncio.run(anchored(f"witness+{process.url}#{process.vkey}"))
    assert line is not None
    assert line.startswith("\u2014 witness.example/w1 ")


@pytest.fixture
def arguments(tmp_path: Path) -> list[object]:
    """What a witness needs, but for where it listens."""
    write_key(tmp_path / "witness.key", WITNESS_KEY)
    given = ["--key-file", tmp_path / "witness.key", "--state", tmp_path / "witness.db"]
    return ["witness", *given, "--trust", _VKEY]


def test_whom_it_trusts_must_be_said(tmp_path: Path) -> None:
    """A witness of nobody's log would only answer 404."""
    write_key(tmp_path / "witness.key", WITNESS_KEY)
    given = ["--key-file", tmp_path / "witness.key", "--state", tmp_path / "witness.db"]
    done = muniment("witness", *given)
    assert done.exit_code == 2
    assert "--trust-only" in done.stderr


@pytest.mark.parametrize(
    "address", ["", "7340", "127.0.0.1", "127.0.0.1:", ":1", "x:65536", "x:-1"]
)
def test_an_address_that_is_none_is_refused(arguments: list[object], address: str) -> None:
    """With what it should look like."""
    done = muniment(*arguments, "--listen", address)
    assert done.exit_code == 2
    assert "is not HOST:PORT" in done.stderr


def test_a_port_that_is_taken_is_said(arguments: list[object]) -> None:
    """One line, exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = muniment(*arguments, "--listen", f"127.0.0.1:{port}")
    assert done.exit_code == 1
    assert str(port) in done.stderr


@pytest.mark.parametrize("vkey", ["nonsense", WITNESS_KEY.verifier.text(), LOG_KEY.text()])
def test_a_log_s_key_that_is_none_is_refused(arguments: list[object], vkey: str) -> None:
    """A private key given by mistake is not shown."""
    done = muniment(*arguments[:-1], vkey)
    assert done.exit_code == 2
    assert LOG_KEY.text() not in done.stderr


def test_a_log_s_private_key_makes_no_witness(tmp_path: Path) -> None:
    """What signs checkpoints does not cosign."""
    write_key(tmp_path / "audit.key", LOG_KEY)
    given = ["--key-file", tmp_path / "audit.key", "--state", tmp_path / "witness.db"]
    done = muniment("witness", *given, "--trust", _VKEY)
    assert done.exit_code == 2
    assert "keygen --witness" in done.stderr


def test_an_audit_log_is_no_witness_s_memory(arguments: list[object], tmp_path: Path) -> None:
    """It is left as it is."""
    _extend(f"sqlite:///{tmp_path / 'audit.db'}", 1)
    given = [
        tmp_path / "audit.db" if each == tmp_path / "witness.db" else each for each in arguments
    ]
    done = muniment(*given)
    assert done.exit_code == 2
    assert "no witness's file" in done.stderr


# --- watch


def test_a_log_that_holds_is_well(store_url_ready: str, memory: Path) -> None:
    """Exit code 0, and one line on stdout; nothing for cron to send."""
    for count, tenant_id in ((3, "acme"), (2, "beta"), (4, "acme")):
        _extend(store_url_ready, count, tenant_id)
        given = ["--all", "--key", _VKEY, "--memory", memory, "--once"]
        done = muniment("watch", *given, url=store_url_ready)
        assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "logs that hold all that is remembered of them: 2\n"


def test_a_rollback_is_told(sqlite_url: str, memory: Path, tmp_path: Path) -> None:
    """Exit code 1, and a line on stderr with tenant and sizes."""
    _extend(sqlite_url, 3)
    older = tmp_path / "older.db"
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), older)
    _extend(sqlite_url, 4)
    given = ["--tenant", "acme", "--key", _VKEY, "--memory", memory, "--once"]
    assert muniment("watch", *given, url=sqlite_url).exit_code == 0
    done = muniment("watch", *given, url=f"sqlite:///{older}")
    assert done.exit_code == 1
    assert done.stderr == (
        "acme: rollback: its newest checkpoint has a tree size of 3; one of 7 is remembered\n"
    )


def test_an_anchor_s_directory_is_watched_against(sqlite_url: str, memory: Path) -> None:
    """The checkpoints that the log put there itself."""
    _extend(sqlite_url, 3)
    given = ["--tenant", "acme", "--key", _VKEY, "--once"]
    assert muniment("watch", *given, "--memory", memory, url=sqlite_url).exit_code == 0
    Path(sqlite_url.removeprefix("sqlite:///")).unlink()
    _extend(sqlite_url, 5)
    more = ["--memory", memory.with_name("other"), "--anchors", memory]
    done = muniment("watch", *given, *more, url=sqlite_url)
    assert done.exit_code == 1
    assert done.stderr.startswith("acme: fork: the tree of 5 leaves does not hold")


@pytest.mark.parametrize("given", [[], ["--all", "--tenant", "acme"]])
def test_whom_to_look_at_must_be_said(sqlite_url: str, memory: Path, given: list[str]) -> None:
    """Either some tenants or all of them."""
    done = muniment("watch", *given, "--key", _VKEY, "--memory", memory, url=sqlite_url)
    assert done.exit_code == 2


def test_a_database_that_is_not_there_is_not_made(sqlite_url: str, memory: Path) -> None:
    """Exit code 1: nobody looked."""
    given = ["--all", "--key", _VKEY, "--memory", memory, "--once"]
    done = muniment("watch", *given, url=sqlite_url)
    assert done.exit_code == 1
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize(("vkey", "exit_code"), [(_VKEY, 0), (OTHER_LOG_KEY.verifier.text(), 1)])
def test_a_watch_goes_on_until_it_is_stopped(
    sqlite_url: str, memory: Path, vkey: str, exit_code: int
) -> None:
    """Each round says what it found; the exit code says whether any round found something."""
    _extend(sqlite_url, 3)
    given = ["--all", "--key", vkey, "--memory", str(memory), "--interval", "0.01"]
    with subprocess.Popen(
        [*PROGRAM, "--url", sqlite_url, "watch", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
    ) as process:
        assert process.stdout is not None
        rounds = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert all(rounds)
    assert process.returncode == exit_code
    assert ("acme: signature:" in said) == bool(exit_code)


def test_a_watch_goes_on_after_a_round_that_could_not_look(sqlite_url: str, memory: Path) -> None:
    """That round says so, and counts as a problem."""
    _extend(sqlite_url, 3)
    given = ["--all", "--key", _VKEY, "--memory", str(memory / "in"), "--interval", "0.01"]
    memory.write_text("a file is in the way")
    with subprocess.Popen(
        [*PROGRAM, "--url", sqlite_url, "watch", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith("not looked at: ")
        memory.unlink()
        assert process.stdout.readline() == (
            "logs that hold all that is remembered of them: 1, 1 of them seen for the first time\n"
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 1
