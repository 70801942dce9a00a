"""The README and the docs are run as a reader would: every Python and console example, in order.

A page is run from its top to its bottom, in one empty directory; a page in `_RECIPES` section by
section, each in a directory of its own. In Python examples `await` may stand at the top level, as
in `python -m asyncio`. In console examples what follows a `$` line is its output: `...` stands for
anything, and no output for any. An `output` block is what the Python example before it prints.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import muniment
from muniment import AuditLog, default_log
from muniment.cli import main
from muniment.event import Actor, Change, Context, Event, Target
from muniment.query import EventFilter
from muniment.stores.postgres import PostgresStore
from muniment.stores.sqlite import SqliteStore
from muniment.writers import Extras
from tests.servers.postgres import PostgresServer, find_binaries

_ROOT = Path(__file__).parent.parent
_PAGES = sorted([_ROOT / "README.md", _ROOT / "CONTRIBUTING.md", *_ROOT.glob("docs/**/*.md")])
_RECIPES = _ROOT / "docs" / "how-to.md"
_REFERENCE = _ROOT / "docs" / "reference.md"
_GLOSSARY = _ROOT / "docs" / "glossary.md"
_CLEAN_UP = """
DROP DATABASE IF EXISTS audit WITH (FORCE);
DROP ROLE IF EXISTS app;
DROP ROLE IF EXISTS auditor;
"""
_LIBRARY_OPTIONS = {"clock", "entropy"}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FAILS = re.compile(r"^(muniment: |ERROR: )", re.MULTILINE)


class Block(NamedTuple):
    """One fenced example of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for whoever must mend it."""
        return f"{self.page.relative_to(_ROOT)}:{self.line}"


class Reading(NamedTuple):
    """The examples that a reader runs one after the other."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def needs_postgres(self) -> bool:
        """Whether an example speaks to a server."""
        return any("postgresql://" in block.text for block in self.blocks)


def _blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 2, found[1], found[2])
        for found in _FENCE.finditer(text)
    ]


def _readings() -> Iterator[Reading]:
    for page in _PAGES:
        name = page.relative_to(_ROOT).as_posix()
        blocks = [b for b in _blocks(page) if b.language in {"python", "console", "output"}]
        if page != _RECIPES:
            if blocks:
                yield Reading(name, tuple(blocks))
            continue
        lines = page.read_text().splitlines()
        starts = [n for n, line in enumerate(lines, 1) if line.startswith("## ")]
        for start, end in zip(starts, [*starts[1:], len(lines) + 1], strict=True):
            within = tuple(block for block in blocks if start <= block.line < end)
            if within:
                yield Reading(f"{name} {lines[start - 1]}", within)


# --- running


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own: the examples make roles, which belong to a whole server."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def environment(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """An empty directory, our `muniment` and `psql` on the path, and `localhost` a real server."""
    reading: Reading = request.getfixturevalue("reading")
    path = [str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("COLUMNS", "160")
    directory = tmp_path / "empty"
    directory.mkdir()
    monkeypatch.chdir(directory)
    with monkeypatch.context() as patch:
        patch.setattr(default_log, "_default", default_log._DefaultLog())
        yield from _with_server(request, monkeypatch, needed=reading.needs_postgres)
        default_log._default.end()


def _with_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *, needed: bool
) -> Iterator[pytest.MonkeyPatch]:
    if not needed:
        yield monkeypatch
        return
    postgres: PostgresServer = request.getfixturevalue("server")
    url = postgres.url()
    monkeypatch.setenv("PGPORT", url.rpartition(":")[2].partition("/")[0])
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGUSER", "postgres")
    yield monkeypatch
    cleaned = postgres.psql(_CLEAN_UP)
    assert cleaned.returncode == 0, cleaned.stderr


@pytest.mark.parametrize("reading", list(_readings()), ids=lambda reading: reading.name)
def test_the_examples_work_as_written(reading: Reading, environment: pytest.MonkeyPatch) -> None:
    """Whoever types in a page's examples, from the first to the last, gets what the page says."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    with asyncio.Runner() as runner:
        log = None
        if reading.blocks[0].page == _RECIPES:
            log = AuditLog.open("sqlite:///muniment.db")
            names["log"] = runner.run(_entered(log))
        for block in reading.blocks:
            if block.language == "python":
                printed = _run_python(block, names, runner)
            elif block.language == "output":
                assert _matches(block.text, printed), f"{block.place} prints:\n{printed}"
            else:
                _run_console(block, environment)
        if log is not None:
            runner.run(log.close())


async def _entered(log: AuditLog) -> AuditLog:
    return await log


def _run_python(block: Block, names: dict[str, Any], runner: asyncio.Runner) -> str:
    # The lines are numbered as in the page.
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if code.co_flags & inspect.CO_COROUTINE:
            runner.run(eval(code, names))  # noqa: S307 - our own pages
        else:
            exec(code, names)  # noqa: S102 - the same
    return printed.getvalue()


def _run_console(block: Block, environment: pytest.MonkeyPatch) -> None:
    for command, expected in _commands(block):
        if command.startswith("pip install "):
            _check_install(block, command)
            continue
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            environment.setenv(name, shlex.split(value)[0])
            continue
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        said = f"{block.place}: $ {command}\nexit code {done.returncode}\n{done.stdout}"
        assert (done.returncode != 0) == bool(_FAILS.search(expected)), said
        assert not expected or _matches(expected, done.stdout), said


def _commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command, its continued lines joined, and the output that the page shows for it."""
    assert block.text.startswith("$ "), f"{block.place} begins with no command"
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        found = re.match(r"((?:.*\\\n)*.*)\n?", part)
        assert found is not None
        yield found[1].replace("\\\n", " "), part[found.end() :]


def _matches(expected: str, output: str) -> bool:
    pattern = "".join(
        ".*" if piece == "..." else re.escape(piece)
        for piece in re.split(r"(\.\.\.)", _without_layout(expected))
    )
    return re.fullmatch(pattern, _without_layout(output), re.DOTALL) is not None


def _without_layout(text: str) -> str:
    """Columns are as wide as what stands in them: one space between them says the same."""
    lines = (re.sub(r" +", " ", line).strip() for line in textwrap.dedent(text).splitlines())
    return "\n".join(line for line in lines if line)


def _check_install(block: Block, command: str) -> None:
    """Installing is tested with the wheel; here, that what is named exists."""
    extras = {name for found in re.findall(r"\[([a-z,]+)\]", command) for name in found.split(",")}
    assert "muniment" in command or "sqlalchemy" in command, block.place
    assert extras <= {"postgres", "prometheus", "dev", "asyncio"}, block.place


# --- completeness


def test_the_reference_names_everything_public() -> None:
    """Whatever can be imported from `muniment` has its place in the reference."""
    reference = _REFERENCE.read_text()
    missing = [
        name for name in muniment.__all__ if not re.search(rf"`(await )?{name}\b", reference)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("heading", "named"),
    [
        ("AuditLog.open", AuditLog.__init__),
        ("The SQLite store", SqliteStore.__init__),
        ("The PostgreSQL store", PostgresStore.__init__),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reference_has_every_option_with_its_default(heading: str, named: Any) -> None:
    """An option that isn't in the reference, or has another default there, misleads."""
    section = _section(_REFERENCE, heading)
    options = [
        parameter
        for name, parameter in inspect.signature(named).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in _LIBRARY_OPTIONS
    ]
    wrong = [o.name for o in options if not _has_row(section, o.name, o.default)]
    assert wrong == []


def test_the_reference_has_every_argument_of_the_write_functions() -> None:
    """Callers of the four functions find each argument, in its order."""
    section = _section(_REFERENCE, "The write functions")
    for name in muniment.__all__:
        if not name.startswith("write_"):
            continue
        function = getattr(muniment, name)
        ordered = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        (row,) = re.findall(rf"^\| `{name}` \|([^|]*)\|", section, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row) == ordered
    assert [extra for extra in Extras.__annotations__ if f"`{extra}`" not in section] == []


def _has_row(section: str, option: str, default: object) -> bool:
    if isinstance(default, int | float) and not isinstance(default, bool):
        shown = f"{default:,}"
    else:
        shown = f'"{default}"' if isinstance(default, str) else str(default)
    shown = {"None": "", "()": "none"}.get(shown, shown)
    return (
        re.search(rf"^\| `{option}` \|[^|]*{re.escape(shown)}[^|]*\|", section, re.MULTILINE)
        is not None
    )


@pytest.mark.parametrize("kind", [Event, Actor, Target, Change, Context, EventFilter])
def test_the_reference_has_every_field(kind: Any) -> None:
    """The body's fields and the filters are what somebody reads years later."""
    reference = _REFERENCE.read_text()
    assert [name for name in kind.__struct_fields__ if f"`{name}`" not in reference] == []


def _command_tree(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _command_tree(below, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(_command_tree(main, "muniment")), ids=str)
def test_the_reference_says_of_a_command_what_its_help_says(
    path: str, command: click.Command
) -> None:
    """Every command has its section, with the words of its `--help` and every option of it."""
    section = " ".join(_section(_REFERENCE, f"`{path}`").split())
    assert command.help is not None
    said = [" ".join(command.help.partition("\f")[0].split())]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            said += [f"`{parameter.opts[0]}", *([parameter.help] if parameter.help else [])]
    assert [text for text in said if text.replace("|", "\\|") not in section] == []


def _section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    parts = re.split(r"^#+ (.+)\n", page.read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert heading in sections, f"{page.name} has no section {heading!r}"
    return sections[heading]


# --- links and words


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix())
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    """A link to a page or a heading that isn't there is worse than none."""
    dead = []
    for link in _LINK.findall(re.sub(_FENCE, "", page.read_text())):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert dead == []


def _anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(re.sub(_FENCE, "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _words_not_used() -> set[str]:
    table = re.findall(r"^\| [^|]+ \| [^|]+ \| ([^|]*) \|$", _GLOSSARY.read_text(), re.MULTILINE)
    return {word for cell in table for word in re.findall(r"\*(\w+)\*", cell)}


def _public_words() -> Iterator[tuple[str, str]]:
    """Every word in a name that users write: classes, methods, arguments, fields.

    The names of the `write_*` functions are older than the words.
    """
    for name in (name for name in muniment.__all__ if not name.startswith("write_")):
        thing = getattr(muniment, name)
        names = [name, *getattr(thing, "__struct_fields__", ())]
        members = vars(thing).items() if inspect.isclass(thing) else ()
        for member, value in (*members, (name, thing)):
            if member.startswith("_"):
                continue
            names.append(member)
            function = getattr(value, "__func__", value)
            if inspect.isfunction(function):
                names.extend(inspect.signature(function).parameters)
        for found in names:
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", found):
                yield word.lower(), found


def test_public_names_use_the_glossary_s_words() -> None:
    """One word for each idea: a name never says `entry` where the glossary says event."""
    unwanted = _words_not_used()
    assert len(unwanted) > 5
    # ORG is a department's kind of action, and not another word for tenant.
    used = {name for word, name in _public_words() if word in unwanted and name != "ORG"}
    assert {name for name in used if not name.startswith("ORG_")} == set()
