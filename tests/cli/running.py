"""Runs the command line: in this process, or as a real one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from muniment import AuditLog, Event, Receipt
from muniment.cli import main
from muniment.stores import open_store

PROGRAM = (sys.executable, "-m", "muniment.cli")
SHELL = shutil.which("bash") or "bash"


@pytest.fixture
def store_url_ready(store_url: str) -> str:
    """The URL of an empty log in each kind of store, its schema up to date."""
    prepare(store_url)
    return store_url


class Done(NamedTuple):
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str
    raw: bytes


def muniment(
    *arguments: object, url: str | None = None, stdin: bytes | None = None, columns: int = 120
) -> Done:
    """Run one command in this process. An exception that it lets out is raised here."""
    given = [*(("--url", url) if url else ()), *map(str, arguments)]
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(
        main, given, input=stdin, catch_exceptions=False
    )
    return Done(result.exit_code, result.stdout, result.stderr, result.stdout_bytes)


def environment(**more: str) -> dict[str, str]:
    """The environment of a real process, without settings of the terminal that tests run in."""
    bare = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return {**bare, "PYTHONUTF8": "1", **more}


def prepare(url: str) -> None:
    """Give the database its schema."""

    async def upgrade() -> None:
        store = open_store(url)
        try:
            await store.upgrade()
        finally:
            await store.close()

    asyncio.run(upgrade())


def record(url: str, events: Sequence[Event]) -> list[Receipt]:
    """Record events through the library."""

    async def work() -> list[Receipt]:
        async with AuditLog.open(url) as log:
            return await log.record_many(events)

    return asyncio.run(work())


def search(url: str, **filters: Any) -> list[Event]:
    """Every event that a search finds, through the library."""

    async def work() -> list[Event]:
        async with AuditLog.open(url) as log:
            return (await log.search(**{"limit": 10_000, **filters})).events

    return asyncio.run(work())


def bodies(url: str) -> list[bytes]:
    """The bodies of a SQLite log exactly as they are stored, newest first."""
    with sqlite3.connect(Path(url.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute("SELECT body FROM muniment_events ORDER BY event_id DESC")
        found = [row[0] for row in rows]
    connection.close()
    return [body if isinstance(body, bytes) else body.encode() for body in found]
