"""`python -m bench.viewer`: how long the viewer's first page takes in a long trail.

The page (events, histogram, facets) is asked of the application in this process, as a browser with
a token would: no network, but all that the server does. The trail is that of `bench.pages`, made
the same way; a directory that keeps the one keeps the other.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, perf_counter_ns
from typing import Final

import httpx
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.measuring import percentile
from bench.pages import opened, record_trail
from bench.postgres import running_server
from bench.trail import TENANTS
from muniment import AuditLog
from muniment.http.access import Scope
from muniment.http.app import make_app
from muniment.http.auth.tokens import create_token
from muniment.http.settings import ServiceSettings
from tests.servers.postgres import URL_VARIABLE, Postgres

EVENTS: Final = 10_000_000
_TENANT: Final = TENANTS[3]
_MOST_MS: Final = 150.0
_COUNTED: Final = 20_000
_PATHS: Final = {
    "first page": "/",
    "30 days": "/?since=30d",
    "90 days": "/?since=90d",
    "an outcome": "/?since=30d&q=outcome:denied",
    "an actor": "/?since=30d&q=actor:u-common",
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The time of a page: the first one, the median and the 95th percentile, in milliseconds."""

    store: str
    events: int
    scope: str
    page: str
    bytes: int
    first_milliseconds: float
    median_milliseconds: float
    p95_milliseconds: float


async def catch_up(url: str, show: Console) -> None:
    """Count what a trail holds, and say what that takes."""
    async with opened(url) as store:
        counted, began = 0, perf_counter()
        while done := await store.counts.count_pending(_COUNTED):
            counted += done
        if counted:
            each = (perf_counter() - began) / counted
            show.print(
                f"  {counted:,} events counted, {each * 1e6:.1f} microseconds each", highlight=False
            )


async def time_pages(url: str, *, count: int, store: str, calls: int) -> list[Page]:
    """Time each page, for who sees a tenant and for who sees all."""
    measured = []
    async with AuditLog.open(url, sequence=False) as log:
        app = make_app(log, ServiceSettings(record_reading=False))
        async with app.lifespan(), _client(app) as client:
            for scope, tenant_id in (("a tenant", _TENANT), ("all tenants", None)):
                token = await create_token(
                    log, name="bench", scopes=tuple(Scope), tenant_id=tenant_id
                )
                headers = {"Authorization": f"Bearer {token.secret}", "Accept": "text/html"}
                for name, path in _PATHS.items():
                    times = []
                    for _ in range(calls):
                        before = perf_counter_ns()
                        answer = await client.get(path, headers=headers)
                        times.append(perf_counter_ns() - before)
                        if answer.status_code != httpx.codes.OK:
                            msg = f"{path}: {answer.status_code} {answer.text[:300]}"
                            raise RuntimeError(msg)
                    measured.append(
                        Page(
                            store=store,
                            events=count,
                            scope=scope,
                            page=name,
                            bytes=len(answer.content),
                            first_milliseconds=times[0] / 1e6,
                            median_milliseconds=percentile(times, 50) / 1e6,
                            p95_milliseconds=percentile(times, 95) / 1e6,
                        )
                    )
    return measured


def _client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=60)


async def measure_sqlite(directory: Path, count: int, calls: int, show: Console) -> list[Page]:
    """The pages over a trail in a SQLite file, which is made unless it is there."""
    file = directory / f"trail-{count}.db"
    url = f"sqlite:///{file}"
    show.print(f"SQLite: {file.name}")
    if not file.exists():
        async with opened(url) as store:
            await record_trail(store, count, show)
    await catch_up(url, show)
    return await time_pages(url, count=count, store="SQLite", calls=calls)


async def measure_postgres(
    server: Postgres, count: int, calls: int, show: Console, *, keep: bool
) -> list[Page]:
    """The pages over a trail in PostgreSQL, which is made unless it is there."""
    database = f"muniment_trail_{count}"
    show.print(f"PostgreSQL: {database}")
    url = server.url(database)
    if database not in server.psql("SELECT datname FROM pg_database").stdout.split():
        server.psql(f"CREATE DATABASE {database}")
        async with opened(url, migrate=True) as store:
            await record_trail(store, count, show)
        server.psql("VACUUM ANALYZE", database)  # as autovacuum does in time
    async with opened(url, migrate=True):
        pass  # a trail that was kept may be older than the counts
    await catch_up(url, show)
    server.psql("VACUUM ANALYZE muniment.cells", database)
    found = await time_pages(url, count=count, store="PostgreSQL", calls=calls)
    if not keep:
        server.psql(f"DROP DATABASE {database}")
    return found


def print_pages(measured: Sequence[Page], console: Console) -> None:
    """Each page, and whether the target is met."""
    table = Table(title="The viewer's pages, ms at the server", box=SIMPLE_HEAD)
    for heading in ("store", "scope", "page"):
        table.add_column(heading)
    for heading in ("events", "KB", "first", "median", "p95"):
        table.add_column(heading, justify="right")
    table.add_column(f"at most {_MOST_MS:.0f} ms")
    for page in measured:
        table.add_row(
            page.store,
            page.scope,
            page.page,
            f"{page.events:,}",
            f"{page.bytes / 1000:.0f}",
            f"{page.first_milliseconds:.0f}",
            f"{page.median_milliseconds:.0f}",
            f"{page.p95_milliseconds:.0f}",
            "met" if page.p95_milliseconds <= _MOST_MS else "not met",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="make bench-viewer", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="the trail's length")
    parser.add_argument("--calls", type=int, default=60, help="requests of each kind (60)")
    parser.add_argument("--only", choices=("sqlite", "postgres"))
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIRECTORY",
        help="keep the trails for the next run: in a file there, and in the server "
        f"that {URL_VARIABLE} names",
    )
    parser.add_argument("--json", type=Path, default=Path("bench-results/viewer.json"))
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110)
    measured: list[Page] = []
    with ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(TemporaryDirectory()))
        if options.only != "postgres":
            work = measure_sqlite(directory, options.events, options.calls, console)
            measured += asyncio.run(work)
        if options.only != "sqlite":
            with running_server() as server:
                measured += asyncio.run(
                    measure_postgres(
                        server, options.events, options.calls, console, keep=bool(options.keep)
                    )
                )
    print_pages(measured, console)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
    console.print(f"Every page, as JSON: {options.json}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
