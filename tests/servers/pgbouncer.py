"""A real PgBouncer before a PostgreSQL: connections are shared, a transaction at a time."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

import pytest
from sqlalchemy.engine import make_url

from tests.servers.ports import HeldPort
from tests.servers.postgres import Postgres, unprivileged

_TIMEOUT: Final = 60
_PAUSE: Final = 0.02

# It waits for its standard input to close, which the end of our process does however it comes.
_WATCHER: Final = """
"$1" -q "$2/pgbouncer.ini" & running=$!
cat >/dev/null
kill $running; wait $running
rm -rf "$2"
"""


def find_pgbouncer() -> str:
    """The program, on PATH or where Debian puts it, else a failure."""
    found = shutil.which(
        "pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    if found is None:
        pytest.fail("no PgBouncer for the tests: apt-get install pgbouncer", pytrace=False)
    return found


class PgBouncer:
    """A pooler in transaction mode; use it in a `with`. It knows the roles that are there by then.

    `pool_size` connections to the server serve all clients of one database and role. It and its
    directory go when its owner's process ends, even by SIGKILL.
    """

    def __init__(self, server: Postgres, *, pool_size: int = 2) -> None:
        program = find_pgbouncer()
        self._server = server
        self._port = HeldPort()
        identity = unprivileged()
        self._directory = Path(tempfile.mkdtemp(prefix="muniment-pgbouncer-"))
        self._configure(pool_size)
        if identity:
            for path in (self._directory, *self._directory.iterdir()):
                os.chown(path, identity["user"], identity["group"])
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", program, self._directory],
            stdin=subprocess.PIPE,
            cwd=self._directory,
            start_new_session=True,
            **identity,
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port.number), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(_PAUSE)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def through(self, url: str) -> str:
        """The URL of the same database and role, through the pooler."""
        pooled = make_url(url).set(host="127.0.0.1", port=self._port.number)
        return pooled.render_as_string(hide_password=False)

    def close(self) -> None:
        """Stop, and remove its directory."""
        self._watcher.communicate(timeout=_TIMEOUT)
        self._port.release()

    def _configure(self, pool_size: int) -> None:
        server = make_url(self._server.url())
        users = self._server.psql("SELECT rolname FROM pg_roles").stdout.splitlines()
        (self._directory / "users.txt").write_text(
            "".join(f'"{user}" "{server.password or ""}"\n' for user in users)
        )
        (self._directory / "pgbouncer.ini").write_text(f"""
[databases]
* = host={server.host or "127.0.0.1"} port={server.port or 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port.number}
unix_socket_dir =
auth_type = trust
auth_file = {self._directory}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
server_idle_timeout = 2
""")
