from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import entry_points, version
from pathlib import Path

import click
import pytest

from muniment import Actor, Event, Outcome
from muniment.cli import main
from tests.cli.running import PROGRAM, environment, muniment, record


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


_PATHS = list(_commands(main))


def test_the_entry_point_is_the_command_line() -> None:
    """The installed `muniment` runs what is tested here."""
    (entry,) = entry_points(group="console_scripts", name="muniment")
    assert entry.load() is main


def test_the_module_runs_as_the_program_does(tmp_path: Path) -> None:
    """`python -m muniment.cli` works where the script is not on the path."""
    done = subprocess.run(
        [*PROGRAM, "--version"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"muniment {version('muniment')}\n")


@pytest.mark.parametrize("path", _PATHS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    """Each has a description whose first sentence fits a line, and help for every option."""
    done = muniment(*path, "--help", columns=80)
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert (done.exit_code, done.stderr) == (0, "")
    assert not command.get_short_help_str(limit=72).endswith("...")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments", [("nope",), ("db", "nope"), ("search", "--more"), ("--nope",), ("import", "xml")]
)
def test_bad_use_is_one_line_that_leads_to_the_help(arguments: tuple[str, ...]) -> None:
    """Nobody gets a traceback, or a page of usage, for a typing mistake."""
    done = muniment(*arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--help" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("db",), ("import",)])
def test_a_group_alone_shows_what_there_is(arguments: tuple[str, ...]) -> None:
    """Without a command the help is shown, as for any bad use on stderr."""
    done = muniment(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_the_environment_names_the_store(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MUNIMENT_URL` is used unless --url says otherwise."""
    record(sqlite_url, [Event(action="login")])
    monkeypatch.setenv("MUNIMENT_URL", sqlite_url)
    assert "login" in muniment("search").stdout


def _on_a_terminal(*arguments: str, **variables: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm", COLUMNS="80", **variables),
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what reading says once the other side is closed
            while piece := os.read(ours, 4096):
                shown += piece
        process.wait(60)
    os.close(ours)
    return shown.decode()


def test_colour_is_for_terminals(sqlite_url: str) -> None:
    """Colour on a terminal; none with NO_COLOR, and no escapes at all into a pipe."""
    record(sqlite_url, [Event(action="login", outcome=Outcome.FAILURE)])
    options = ("--url", sqlite_url, "search")
    piped = subprocess.run(
        [*PROGRAM, *options], capture_output=True, text=True, check=True, env=environment()
    )
    red = "\x1b[31m"
    assert {
        "terminal": red in _on_a_terminal(*options),
        "NO_COLOR": red in _on_a_terminal(*options, NO_COLOR="1"),
        "pipe": "\x1b" in piped.stdout,
    } == {"terminal": True, "NO_COLOR": False, "pipe": False}


def test_csv_on_a_terminal_is_safe_to_look_at(sqlite_url: str) -> None:
    """Into a file a CSV is exact; what a terminal would obey is shown escaped there."""
    record(sqlite_url, [Event(action="login", actor=Actor.user("u1", name="\x1b[31m\u202e"))])
    shown = _on_a_terminal("--url", sqlite_url, "search", "--format", "csv")
    assert "\\x1b[31m\\u202e" in shown
    assert "\x1b" not in shown


def test_progress_is_shown_on_a_terminal_only(sqlite_url: str, tmp_path: Path) -> None:
    """A person sees that an import is under way; a log file does not fill up with bars."""
    lines = tmp_path / "lines"
    lines.write_text("")
    options = ("--url", sqlite_url, "import", "jsonl", str(lines))
    piped = subprocess.run(
        [*PROGRAM, *options], capture_output=True, text=True, check=True, env=environment()
    )
    assert "Importing" in _on_a_terminal(*options)
    assert piped.stderr == ""


def test_text_that_a_locale_cannot_write_is_escaped(sqlite_url: str) -> None:
    """An ASCII terminal shows an escape for 王; the command does not fail."""
    record(sqlite_url, [Event(action="login", actor=Actor.user("u1", name="王芳"))])
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "muniment.cli", "--url", sqlite_url, "search"],
        capture_output=True,
        env={**environment(), "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u738b" in done.stdout
