"""Months in PostgreSQL: made ahead, made by need, and what lies outside of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from muniment import AuditLog
from muniment.errors import EventRefused
from tests.servers.postgres import Postgres

_PARTITION_OF = "SELECT tableoid::regclass FROM muniment.events WHERE event_id = '{}'"


@pytest.mark.parametrize(
    ("occurred_at", "partition"),
    [
        ("1970-01-01T00:00:00+00:00", "muniment.events_before_2020"),
        ("2019-12-31T23:59:59.999999+00:00", "muniment.events_before_2020"),
        ("2020-01-01T00:00:00+00:00", "muniment.events_2020_01"),
        ("2024-02-29T23:59:59.999999+00:00", "muniment.events_2024_02"),
        ("2024-03-01T01:00:00+02:00", "muniment.events_2024_02"),
    ],
)
async def test_where_old_events_lie(
    postgres_server: Postgres, postgres_log_url: str, occurred_at: str, partition: str
) -> None:
    """Each in the partition of its month in UTC; all of before 2020 in one; all are found."""
    async with AuditLog.open(postgres_log_url) as log:
        moment = datetime.fromisoformat(occurred_at)
        receipt = await log.record("login", tenant_id="acme", occurred_at=moment)
        assert receipt.durable_in == "store"
        (found,) = (await log.search(tenant_id="acme", until=moment + timedelta(seconds=1))).events
        assert (found.event_id, found.occurred_at) == (receipt.event_id, moment)
    place = postgres_server.psql(
        _PARTITION_OF.format(receipt.event_id), postgres_log_url.rpartition("/")[2]
    )
    assert place.stdout.strip() == partition


async def test_a_clock_that_is_far_ahead(postgres_log_url: str) -> None:
    """An event of over a year from the database's now is refused for its own sake."""
    async with AuditLog.open(postgres_log_url, clock=lambda: datetime(2999, 1, 1, tzinfo=UTC)) as f:
        with pytest.raises(EventRefused, match="over a year ahead"):
            await f.record("login")


async def test_next_months_partition_is_made_ahead(
    postgres_server: Postgres, postgres_log_url: str
) -> None:
    """Recording this month's events sees to it that next month's find their partition."""
    database = postgres_log_url.rpartition("/")[2]
    ahead = (
        "FROM (SELECT to_char(now() AT TIME ZONE 'UTC' + n * interval '1 month', 'YYYY_MM') AS m "
        "FROM generate_series(1, 2) AS n) AS ahead ORDER BY m"
    )
    drop = "DROP TABLE muniment.events_%1$s, muniment.postings_%1$s"
    dropped = postgres_server.psql(f"SELECT format('{drop}', m) {ahead} \\gexec", database)
    assert dropped.returncode == 0, dropped.stderr
    async with AuditLog.open(postgres_log_url) as log:
        await log.record("login")
    made = postgres_server.psql(
        f"SELECT to_regclass('muniment.events_' || m) IS NOT NULL {ahead}", database
    )
    assert made.stdout.split() == ["t", "f"]
