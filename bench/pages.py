"""`python -m bench.pages`: how long a page of 50 takes in a long trail, on both stores.

The trail is recorded through the stores' own `append` and indexed by their own `index_pending`,
once for each length; then every filter but text is searched for values that are common, rare and
absent: within a tenant (on PostgreSQL as a reader that row security binds to it), and across all.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, perf_counter_ns
from typing import Any, Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.measuring import percentile
from bench.postgres import running_server
from bench.trail import SOUGHT, TENANTS, trail
from muniment.actions import standard_catalogue
from muniment.sealing import utc_now
from muniment.searching import Searcher
from muniment.stores import open_store
from muniment.stores.base import Store
from tests.servers.postgres import URL_VARIABLE, Postgres

LENGTHS: Final = (100_000, 10_000_000)
_TENANT: Final = TENANTS[3]
_PAGE: Final = 50
_APPENDED: Final = 2_000
_INDEXED: Final = 20_000
_WARM_UP: Final = 3
_MOST_MS: Final = 10.0
_MOST_TIMES: Final = 1.5


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """The time of one kind of page: its 95th percentile, in milliseconds."""

    store: str
    events: int
    scope: str
    filter: str
    value: str
    found: int
    p95_milliseconds: float


async def record_trail(store: Store, count: int, show: Console) -> None:
    """Record and index a trail of `count` events."""
    began = perf_counter()
    events = trail(count, utc_now())
    while batch := list(islice(events, _APPENDED)):
        await store.append(batch)
    show.print(f"  {count:,} events recorded in {perf_counter() - began:,.0f} s", highlight=False)
    began = perf_counter()
    while await store.index_pending(_INDEXED):
        pass
    show.print(f"  indexed in {perf_counter() - began:,.0f} s", highlight=False)


async def time_pages(
    url: str, *, count: int, store_name: str, scope: str, tenant: str | None, calls: int
) -> list[Pages]:
    """Time the first page of each filter and value."""
    measured = []
    async with opened(url) as store:
        searcher = Searcher(store, standard_catalogue(), tenant_id=None, clock=utc_now)
        for filter_name, value_name, value in _values():
            given: dict[str, Any] = {filter_name: value} if filter_name != "none" else {}
            if tenant is not None:
                given["tenant_id"] = tenant
            times = []
            for n in range(_WARM_UP + calls):
                before = perf_counter_ns()
                page = await searcher.search(given, order="newest", limit=_PAGE, cursor=None)
                if n >= _WARM_UP:
                    times.append(perf_counter_ns() - before)
            measured.append(
                Pages(
                    store=store_name,
                    events=count,
                    scope=scope,
                    filter=filter_name if "*" not in str(value) else f"{filter_name} {value}",
                    value=value_name,
                    found=len(page.events),
                    p95_milliseconds=percentile(times, 95) / 1e6,
                )
            )
    return measured


def _values() -> Iterator[tuple[str, str, Any]]:
    yield "none", "common", None
    yield "since", "common", "30d"
    yield "until", "rare", utc_now().replace(year=utc_now().year - 5)
    for sought in SOUGHT:
        for value_name in ("common", "rare", "absent"):
            yield sought.name, value_name, getattr(sought, value_name)


async def measure_sqlite(directory: Path, count: int, calls: int, show: Console) -> list[Pages]:
    """The pages of a trail in a SQLite file, which is made unless it is there."""
    file = directory / f"trail-{count}.db"
    url = f"sqlite:///{file}"
    show.print(f"SQLite: {file.name}")
    if not file.exists():
        async with opened(url) as store:
            await record_trail(store, count, show)
    found = []
    for scope, tenant in (("a tenant", _TENANT), ("all tenants", None)):
        found += await time_pages(
            url, count=count, store_name="SQLite", scope=scope, tenant=tenant, calls=calls
        )
    return found


async def measure_postgres(
    server: Postgres, count: int, calls: int, show: Console, *, keep: bool
) -> list[Pages]:
    """The pages of a trail in PostgreSQL, which is made unless it is there, as its readers."""
    database = f"muniment_trail_{count}"
    bound, everywhere = f"{database}_bound", f"{database}_all"
    show.print(f"PostgreSQL: {database}")
    if database not in server.psql("SELECT datname FROM pg_database").stdout.split():
        server.psql(f"CREATE DATABASE {database}")
        async with opened(server.url(database), migrate=True) as store:
            server.psql(
                f"CREATE ROLE {bound} LOGIN; CREATE ROLE {everywhere} LOGIN;"
                f"GRANT muniment_reader TO {bound}, {everywhere};"
                f"SELECT muniment.bind_role('{bound}', '{_TENANT}');"
                f"SELECT muniment.bind_role('{everywhere}', NULL)",
                database,
            )
            await record_trail(store, count, show)
        server.psql("VACUUM ANALYZE", database)  # as autovacuum does in time
    found = []
    for scope, role, tenant in (
        ("a tenant, its reader", bound, _TENANT),
        ("all tenants, a reader", everywhere, None),
    ):
        url = server.url(database, role)
        found += await time_pages(
            url, count=count, store_name="PostgreSQL", scope=scope, tenant=tenant, calls=calls
        )
    if not keep:
        server.psql(f"DROP DATABASE {database}")
        server.psql(f"DROP ROLE {bound}; DROP ROLE {everywhere}")
    return found


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Store]:
    """The store at `url`, open."""
    store = open_store(url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def print_pages(measured: Sequence[Pages], console: Console) -> None:
    """The slowest page of each kind in each trail, and whether the targets are met."""
    by_kind: dict[tuple[str, str, str], dict[int, Pages]] = {}
    for pages in measured:
        slowest = by_kind.setdefault((pages.store, pages.scope, pages.value), {})
        before = slowest.get(pages.events)
        if before is None or pages.p95_milliseconds > before.p95_milliseconds:
            slowest[pages.events] = pages
    lengths = sorted({pages.events for pages in measured})
    table = Table(title=f"A page of {_PAGE}: p95 of the slowest filter, ms", box=SIMPLE_HEAD)
    for heading in ("store", "scope", "value"):
        table.add_column(heading)
    for length in lengths:
        table.add_column(f"in {length:,}", justify="right")
    table.add_column("slowest filter")
    table.add_column("at most 10 ms")
    for (store, scope, value), slowest in by_kind.items():
        last = slowest[lengths[-1]]
        table.add_row(
            store,
            scope,
            value,
            *(f"{slowest[length].p95_milliseconds:.2f}" for length in lengths),
            last.filter,
            "met" if last.p95_milliseconds <= _MOST_MS else "not met",
        )
    console.print(table)
    if len(lengths) > 1:
        _print_growth(measured, lengths, console)


def _print_growth(measured: Sequence[Pages], lengths: Sequence[int], console: Console) -> None:
    """How much longer the same page takes in the long trail than in the short one."""
    short = {(p.store, p.scope, p.filter, p.value): p for p in measured if p.events == lengths[0]}
    worst: dict[tuple[str, str], tuple[float, Pages]] = {}
    for pages in measured:
        if pages.events == lengths[-1]:
            same = short[pages.store, pages.scope, pages.filter, pages.value]
            times = pages.p95_milliseconds / same.p95_milliseconds
            if times > worst.get((pages.store, pages.scope), (0.0, pages))[0]:
                worst[pages.store, pages.scope] = times, pages
    for (store, scope), (times, pages) in worst.items():
        verdict = "met" if times <= _MOST_TIMES else "not met"
        console.print(
            f"{store}, {scope}: at most {_MOST_TIMES} times the page in {lengths[0]:,}: "
            f"{times:.2f} ({pages.filter}, {pages.value}), {verdict}",
            highlight=False,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="make bench-pages", description=__doc__)
    parser.add_argument("--events", type=int, action="append", help="a trail's length; repeatable")
    parser.add_argument("--calls", type=int, default=60, help="searches of each kind (60)")
    parser.add_argument("--only", choices=("sqlite", "postgres"))
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIRECTORY",
        help="keep the trails for the next run: in files there, and in the server "
        f"that {URL_VARIABLE} names",
    )
    parser.add_argument("--json", type=Path, default=Path("bench-results/pages.json"))
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110)
    measured: list[Pages] = []
    with ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(TemporaryDirectory()))
        for count in options.events or LENGTHS:
            if options.only != "postgres":
                work = measure_sqlite(directory, count, options.calls, console)
                measured += asyncio.run(work)
            if options.only != "sqlite":
                with running_server() as server:
                    measured += asyncio.run(
                        measure_postgres(
                            server, count, options.calls, console, keep=bool(options.keep)
                        )
                    )
    print_pages(measured, console)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
    console.print(f"Every page, as JSON: {options.json}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
