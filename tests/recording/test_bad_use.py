"""Bad options, bad input, and a log that is not open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from muniment import Actor, AuditLog, Context, Target
from muniment.errors import InvalidConfig, InvalidEvent, LogClosed, WrongProcess


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AuditLog]:
    """An open log."""
    async with AuditLog.open(log_url) as log:
        yield log


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"on_error": "ignore"}, "on_error"),
        ({"overflow": "explode"}, "overflow"),
        ({"deadline": 0}, "deadline"),
        ({"max_queue": -1}, "max_queue"),
        ({"colour": "red"}, "colour"),
        ({"store_options": {"colour": "red"}}, "colour"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"tenant_id": "a\x00"}, "tenant_id"),
        ({"deadline": "soon"}, "deadline"),
    ],
)
async def test_a_bad_option_is_named(sqlite_url: str, options: Any, problem: str) -> None:
    """An option that can't be is refused before anything is opened."""
    with pytest.raises(InvalidConfig, match=problem):
        AuditLog.open(sqlite_url, **options)


@pytest.mark.parametrize(
    "url",
    ["", "audit.db", "mysql://x/y", "sqlite://", "sqlite:///", "sqlite:///:memory:", None, 7],
)
def test_a_bad_url_is_refused(url: Any) -> None:
    """A URL that names no store says what would."""
    with pytest.raises(InvalidConfig, match=r"url: .*sqlite:///"):
        AuditLog.open(url)


async def test_a_log_that_is_not_open(sqlite_url: str) -> None:
    """Before `async with` and after it nothing is recorded, and the error says so."""
    log = AuditLog.open(sqlite_url)
    with pytest.raises(LogClosed):
        await log.record("login")
    async with log:
        pass
    with pytest.raises(LogClosed):
        log.emit("login")
    with pytest.raises(LogClosed):
        await log.search()


async def test_a_log_may_be_closed_twice(sqlite_url: str) -> None:
    """Closing again does nothing."""
    log = await AuditLog.open(sqlite_url)
    await log.close()
    await log.close()


async def test_a_log_of_another_process(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was opened before a fork is refused in the child, with the remedy."""
    async with AuditLog.open(sqlite_url) as log:
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: -1)
            with pytest.raises(WrongProcess, match="before a fork"):
                await log.record("login")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tenant_id": "x" * 513}, "tenant_id"),
        ({"tenant_id": "a\x00b"}, "tenant_id"),
        ({"actor": "u1"}, "actor"),
        ({"targets": "u1"}, "targets"),
        ({"targets": [("user", "u1")]}, r"targets\[0\]"),
        ({"outcome": "great"}, "outcome"),
        ({"occurred_at": datetime(2026, 1, 1)}, "occurred_at"),  # noqa: DTZ001 - what is refused
        ({"occurred_at": datetime.now(UTC) + timedelta(days=3)}, "occurred_at"),
        ({"event_id": "42"}, "event_id"),
        ({"event_id": str(uuid4())}, "event_id"),
        ({"idempotency_key": "k" * 513}, "idempotency_key"),
        ({"details": {"x": float("inf")}}, r"details\.x"),
        ({"details": {"x": 2**53}}, r"details\.x"),
        ({"details": {"x": "\ud800"}}, r"details\.x"),
        ({"details": {"x": b"bytes"}}, r"details\.x"),
        ({"details": {1: "x"}}, "details"),
        ({"details": {"x": "y" * 300_000}}, "details"),
        ({"details": [1]}, "details"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_input_is_named_and_nothing_is_stored(
    sqlite_url: str, fields: Any, named: str
) -> None:
    """An event that can't be recorded is refused at the edge, with the path of the field."""
    async with AuditLog.open(sqlite_url) as log:
        with pytest.raises(InvalidEvent, match=rf"^{named}"):
            await log.record("login", **fields)
        assert (await log.search()).events == []


async def test_ids_of_the_largest_size_are_found(log: AuditLog) -> None:
    """Ids of 512 bytes of any script fit every index, alike on both stores."""
    longest = "語" * 170 + "xx"
    await log.record(
        longest,
        tenant_id=longest,
        actor=Actor.user(longest),
        targets=[Target(longest, longest)],
        context=Context(request_id=longest),
        idempotency_key=longest,
    )
    page = await log.search(tenant_id=longest, action=longest, actor_id=longest, request_id=longest)
    assert len(page.events) == 1


async def test_details_of_the_largest_size(log: AuditLog) -> None:
    """256 KiB of details are stored, one byte more is refused."""
    room = 256 * 1024 - len('{"x":""}')
    receipt = await log.record("login", details={"x": "y" * room})
    assert len((await log.get(receipt.event_id)).details["x"]) == room
    with pytest.raises(InvalidEvent, match="details"):
        await log.record("login", details={"x": "y" * (room + 1)})
