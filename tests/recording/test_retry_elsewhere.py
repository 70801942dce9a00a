"""A key without a source time, tried again by another process."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from muniment import AuditLog
from muniment.stores import open_store

_ROOT = Path(__file__).parent.parent.parent
# The last moments of a month, and so of a partition in PostgreSQL.
_FIRST = datetime(2024, 5, 31, 23, 59, 57, tzinfo=UTC)
_RETRY = _FIRST + timedelta(seconds=5)


def _start(url: str, now: datetime) -> subprocess.Popen[str]:
    arguments = (sys.executable, "-m", "tests.recording.retrying_process")
    return subprocess.Popen(
        [*arguments, url, "payment-17", now.isoformat()],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )


def _receipts(*processes: subprocess.Popen[str]) -> list[list[str]]:
    """What each has printed: event_id, leaf_hash, where it is durable, whether it was already."""
    return [process.communicate(timeout=60)[0].split() for process in processes]


async def _actions_and_times(url: str) -> list[tuple[str, datetime]]:
    async with AuditLog.open(url) as log:
        return [(e.action, e.occurred_at) for e in (await log.search(tenant_id="acme")).events]


@pytest.fixture
async def ready_url(log_url: str) -> str:
    """The URL of a log whose schema is in place."""
    store = open_store(log_url)
    await store.upgrade()
    await store.close()
    return log_url


async def test_a_retry_by_another_process_is_the_first_event(ready_url: str) -> None:
    """Five seconds later, in another month: it is stored once, and gives the first receipt."""
    (first,) = _receipts(_start(ready_url, _FIRST))
    (again,) = _receipts(_start(ready_url, _RETRY))
    assert first[2:] == ["store", "False"]
    assert again == [*first[:2], "store", "True"]
    assert await _actions_and_times(ready_url) == [("invoice.pay", _FIRST)]


async def test_retries_that_come_at_once_are_one_event(ready_url: str) -> None:
    """Of four processes on both sides of the month's end, one stores and all get its receipt."""
    times = (_FIRST, _RETRY, _FIRST, _RETRY)
    receipts = _receipts(*[_start(ready_url, now) for now in times])
    assert sorted(receipt[3] for receipt in receipts) == ["False", "True", "True", "True"]
    assert len({tuple(receipt[:3]) for receipt in receipts}) == 1
    assert len(await _actions_and_times(ready_url)) == 1
