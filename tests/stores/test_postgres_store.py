"""What is particular to the PostgreSQL store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from muniment import AuditLog, Event
from muniment.errors import InvalidConfig
from tests.cli.running import muniment

_MALFORMED = (
    "postgresql://u@127.0.0.1:abc/db",
    "postgresql://u@127.0.0.1:99999/db",
    "postgresql://u@127.0.0.1:5432/db?sslmode=perhaps",
    "postgresql://[::1/db",
)


@pytest.mark.parametrize("url", _MALFORMED)
async def test_a_malformed_url_is_bad_use(url: str) -> None:
    """It is no outage: nothing goes to the spool for it."""
    with pytest.raises(InvalidConfig, match="url: "):
        async with AuditLog.open(url):
            pass


@pytest.mark.parametrize("url", _MALFORMED)
def test_a_malformed_url_on_the_command_line(url: str) -> None:
    """It is bad use there too."""
    done = muniment("db", "status", url=url)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


async def test_few_events_are_counted(postgres_log_url: str) -> None:
    """Right after recording, `stats` says how many there are, before any VACUUM or ANALYZE."""
    async with AuditLog.open(postgres_log_url) as log:
        await log.record_many([Event(action="login") for _ in range(123)])
        assert (await log.stats())["store"]["events"] == 123


async def test_many_events_are_estimated(postgres_log_url: str) -> None:
    """Beyond ten thousand the figure is the server's own, which follows within seconds."""
    total = 10_500
    async with AuditLog.open(postgres_log_url) as log:
        await log.record_many([Event(action="login") for _ in range(total)])
        assert 10_000 < (await log.stats())["store"]["events"] <= total
    async with AuditLog.open(postgres_log_url) as log, asyncio.timeout(60):
        while (await log.stats())["store"]["events"] != total:  # noqa: ASYNC110 - of the server
            await asyncio.sleep(0.1)


async def test_a_transaction_that_is_older_than_the_partition(postgres_log_url: str) -> None:
    """It takes an event of that month too, though it has written events before there was one."""
    connection = await asyncpg.connect(postgres_log_url)
    async with AuditLog.open(postgres_log_url) as log:
        months = [datetime(2022, month, 3, tzinfo=UTC) for month in (2, 3)]
        async with connection.transaction():
            await log.record_in(connection, "first", tenant_id="acme")
            await log.record("elsewhere", tenant_id="acme", occurred_at=months[0])
            for moment in months:
                await log.record_in(connection, "old", tenant_id="acme", occurred_at=moment)
        found = sorted(event.action for event in (await log.search()).events)
    await connection.close()
    assert found == ["elsewhere", "first", "old", "old"]
