"""Draining the spool into a store that may do anything: in order, once each, and never for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from muniment import backlog as backlog_module
from muniment.backlog import Backlog
from muniment.diagnostics import Diagnostics
from muniment.errors import EventRefused, StoreUnavailable
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store, StoredEvent
from tests.scripted import LONG, ScriptedStore, raising, until
from tests.spool.making import drain, numbers, sealed, sealed_many


class Opened:
    """A backlog with what is around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = ScriptedStore()
        self.spool = Spool(directory)
        self.emptied = 0
        self.backlog = Backlog(
            cast("Store", self.store),
            self.spool,
            diagnostics=Diagnostics(),
            on_drained=lambda _: None,
            on_empty=self._on_empty,
        )

    async def _on_empty(self) -> None:
        self.emptied += 1

    async def drained(self) -> None:
        """Wait until there is no backlog any more."""
        await until(lambda: not self.backlog.is_first)

    def left(self) -> list[int]:
        """The events that the next process finds in the spool."""
        following = Spool(self.directory)
        following.adopt_orphans()
        left = numbers(drain(following))
        following.close()
        return left


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A backlog that is started, and closed without patience."""
    opened = Opened(tmp_path / "spool")
    await opened.backlog.start()
    yield opened
    await opened.backlog.close(0)


async def test_what_is_appended_is_drained_in_order(opened: Opened) -> None:
    """The spool empties into the store by itself, over many batches."""
    opened.store.before = raising(StoreUnavailable("down"))
    for n in range(50):
        await opened.backlog.append([sealed(n)])
    opened.store.before = lambda _: None
    await opened.drained()

    assert numbers(opened.store.kept) == list(range(50))
    assert (opened.backlog.drained, opened.spool.pending) == (50, 0)


async def test_without_a_backlog_nothing_is_taken(opened: Opened) -> None:
    """Events go to the store then; the spool is not touched."""
    assert not await opened.backlog.take([sealed(0)])
    assert not opened.directory.exists()


async def test_with_a_backlog_events_go_behind_it(opened: Opened) -> None:
    """What comes while the spool drains goes to the end of it."""
    gate = asyncio.Event()
    opened.store.before = lambda _: gate
    await opened.backlog.append([sealed(0)])
    assert await opened.backlog.take([sealed(1)])
    gate.set()
    await opened.drained()

    assert numbers(opened.store.kept) == [0, 1]


async def test_what_is_spooled_already_is_not_spooled_again(opened: Opened) -> None:
    """`unless` is asked in the spool's own thread, behind whatever was put there before."""
    gate = asyncio.Event()
    opened.store.before = lambda _: gate
    await opened.backlog.append([sealed(0)])
    assert await opened.backlog.take([sealed(1)], unless=lambda: True)
    await opened.backlog.append([sealed(2)], unless=lambda: True)

    assert opened.spool.pending == 1
    gate.set()


async def test_a_backlog_ends_only_with_an_empty_spool(opened: Opened) -> None:
    """What is appended at the very end is drained as well, and only then events pass it by."""
    peek = opened.spool.peek

    def append_behind_the_last_look(limit: int) -> list[Sealed]:
        events = peek(limit)
        if not events:
            opened.spool.peek = peek  # type: ignore[method-assign]
            opened.backlog.append_here([sealed(1)])
        return events

    opened.spool.peek = append_behind_the_last_look  # type: ignore[method-assign,assignment]
    await opened.backlog.append([sealed(0)])
    await opened.drained()

    assert numbers(opened.store.kept) == [0, 1]


async def test_an_error_of_any_kind_only_delays_draining(opened: Opened) -> None:
    """Nothing that a store may raise ends it."""
    errors = iter([ZeroDivisionError("what?"), StoreUnavailable("down"), OSError("no")])

    def fail(_: object) -> None:
        for error in errors:
            raise error

    opened.store.before = fail
    await opened.backlog.append(sealed_many(3))
    await opened.drained()

    assert numbers(opened.store.kept) == [0, 1, 2]
    assert len(opened.store.calls) == 4


async def test_a_hung_store_is_asked_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that gets no answer is given up, and tried again."""
    monkeypatch.setattr(backlog_module, "_PATIENCE", 0.05)
    never = asyncio.Event()
    opened.store.before = lambda _: never if len(opened.store.calls) == 1 else None
    await opened.backlog.append(sealed_many(3))
    await opened.drained()

    assert numbers(opened.store.kept) == [0, 1, 2]


async def test_what_was_done_of_a_poisoned_batch_is_not_done_again(opened: Opened) -> None:
    """A store that fails after a poison event was isolated does not have it refused twice."""
    failures = iter([True])

    def refuse(batch: Sequence[Sealed]) -> None:
        if 2 in numbers(batch):
            raise EventRefused("not this one")
        if 3 in numbers(batch) and next(failures, False):
            raise StoreUnavailable("down")

    opened.store.before = refuse
    await opened.backlog.append(sealed_many(8))
    await opened.drained()

    assert numbers(opened.store.kept) == [0, 1, 3, 4, 5, 6, 7]
    assert (opened.backlog.refused, opened.spool.quarantined) == (1, 1)


async def test_what_can_t_be_compared_is_a_conflict(opened: Opened) -> None:
    """A stored body that this version can't read does not hold up the spool for good."""
    there = StoredEvent("acme", "an-id", bytes(32), '{"of": "another version"}')
    await opened.backlog.put_aside_conflict(sealed(0), there)

    assert (opened.backlog.conflicts, opened.spool.quarantined) == (1, 1)


async def test_closing_drains_what_the_store_takes_at_once(tmp_path: Path) -> None:
    """A store that is back when the log closes gets what waits."""
    opened = Opened(tmp_path / "spool")
    await opened.backlog.start()
    opened.store.before = raising(StoreUnavailable("down"))
    await opened.backlog.append(sealed_many(5))
    opened.store.before = lambda _: None
    await opened.backlog.close(LONG)

    assert numbers(opened.store.kept) == [0, 1, 2, 3, 4]
    assert opened.left() == []


async def test_closing_does_not_wait_for_a_store_that_fails(tmp_path: Path) -> None:
    """What it does not take is left to the next process."""
    opened = Opened(tmp_path / "spool")
    await opened.backlog.start()
    opened.store.before = raising(StoreUnavailable("down"))
    await opened.backlog.append(sealed_many(5))
    async with asyncio.timeout(LONG / 2):
        await opened.backlog.close(LONG)

    assert opened.left() == [0, 1, 2, 3, 4]


async def test_closing_gives_up_a_store_that_hangs(tmp_path: Path) -> None:
    """A drain that is under way is cut when patience ends; its events stay in the spool."""
    opened = Opened(tmp_path / "spool")
    await opened.backlog.start()
    opened.store.before = lambda _: asyncio.Event()
    await opened.backlog.append(sealed_many(5))
    await until(lambda: bool(opened.store.calls))
    await opened.backlog.close(0.05)

    assert opened.left() == [0, 1, 2, 3, 4]


async def test_what_earlier_processes_left_comes_first(tmp_path: Path) -> None:
    """A backlog begins with what is in the spool already."""
    left = Spool(tmp_path / "spool")
    left.append(sealed_many(2))
    left.close()
    opened = Opened(tmp_path / "spool")
    gate = asyncio.Event()
    opened.store.before = lambda _: gate
    await opened.backlog.start()

    assert opened.backlog.is_first
    assert await opened.backlog.take([sealed(2)])
    gate.set()
    await opened.drained()
    await opened.backlog.close(0)
    assert numbers(opened.store.kept) == [0, 1, 2]


async def test_a_late_call_is_an_unavailable_store(opened: Opened) -> None:
    """`in_time` waits no longer, whatever the call does with its cancellation."""
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 s"):
        await opened.backlog.in_time(stubborn(), 0.05)
    release.set()


async def test_a_call_that_is_cancelled_by_the_store_is_an_unavailable_store(
    opened: Opened,
) -> None:
    """A driver's own cancellation is not taken for ours."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(StoreUnavailable, match="gave up"):
        await opened.backlog.in_time(give_up(), LONG)
