"""Queue, batches, overflow and losses, without a database: what no real store does on demand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec
import pytest

from muniment.diagnostics import Diagnostics
from muniment.errors import EventRefused, InvalidEvent, LogClosed, SpoolError, StoreUnavailable
from muniment.intake import Intake, Queued, Ticket
from muniment.losses import Loss, Losses
from muniment.recorder import Recorder, Settings
from muniment.spool import Spool
from muniment.stores.base import Sealed, Store
from tests.scripted import LONG, ScriptedStore, raising, until
from tests.spool.making import numbers, sealed, sealed_many


@pytest.fixture
def store() -> ScriptedStore:
    """A store that works until the test says otherwise."""
    return ScriptedStore()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool."""
    return Spool(tmp_path / "spool")


def _now() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


def _seal_loss(loss: Loss) -> Sealed:
    if loss.tenant_id == "impossible":
        raise InvalidEvent("tenant_id", "is impossible")
    return sealed(loss.count, tenant_id=loss.tenant_id, text="loss")


def _recorder(store: ScriptedStore, spool: Spool, settings: Settings) -> Recorder:
    return Recorder(
        cast("Store", store),
        spool,
        settings=settings,
        diagnostics=Diagnostics(),
        losses=Losses(_seal_loss, _now),
        on_stored=lambda _: None,
    )


@pytest.fixture
async def recorder(store: ScriptedStore, spool: Spool) -> AsyncIterator[Recorder]:
    """A recorder with a long deadline."""
    recorder = _recorder(store, spool, Settings(deadline=LONG))
    await recorder.start()
    yield recorder
    await recorder.close()


async def _places(recorder: Recorder, events: Sequence[Sealed]) -> list[str]:
    return [placement.place for placement in await recorder.submit(events).future]


# --- the intake


def _filled(count: int) -> Intake:
    intake = Intake()
    for event in sealed_many(count):
        intake.put(event)
    return intake


def _events(batch: Sequence[Queued]) -> list[int]:
    return numbers([queued.event for queued in batch])


def test_a_batch_is_bounded_by_count_and_by_bytes() -> None:
    """It ends at either bound, and holds one event at least."""
    intake = _filled(10)

    assert _events(intake.take(3, 10**6)) == [0, 1, 2]
    assert _events(intake.take(9, 1)) == [3]
    assert _events(intake.take(99, 10**6)) == [4, 5, 6, 7, 8, 9]
    assert intake.take(99, 10**6) == []


def test_only_the_first_that_waits_needs_to_wake_anybody() -> None:
    """`put` says whether nothing waited before."""
    intake = Intake()
    one, other = sealed_many(2)

    assert [intake.put(one), intake.put(other)] == [True, False]
    intake.take(9, 10**6)
    assert intake.put(one)


def test_a_closed_intake_lets_nothing_in() -> None:
    """What comes after the close is refused, never queued and forgotten."""
    intake = _filled(1)
    intake.close()

    with pytest.raises(LogClosed):
        intake.put(sealed(1))
    assert _events(intake.take(9, 10**6)) == [0]


def test_counts_come_back_to_nothing_whatever_threads_do() -> None:
    """Threads put in while another takes: no event is lost, and no count drifts."""
    intake = Intake()
    taken: list[Queued] = []
    events = sealed_many(50)

    def put() -> None:
        for _ in range(20):
            for event in events:
                intake.put(event)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += intake.take(7, 10**6)
    for thread in threads:
        thread.join()
    taken += intake.take(10**6, 10**9)
    intake.finish()

    assert len(taken) == 4 * 20 * 50
    assert (intake.emitted, intake.emitted_bytes, len(intake)) == (0, 0, 0)
    assert intake.placed == intake.received == len(taken)


async def test_only_what_nobody_waits_for_counts_as_emitted() -> None:
    """Whoever waits for an event bounds the queue by waiting."""
    intake = Intake()
    ticket = Ticket(1, asyncio.get_running_loop())
    intake.put_all([sealed(0)], ticket)
    intake.put(sealed(1))

    assert (intake.emitted, len(intake)) == (1, 2)


def test_spilling_moves_all_that_waits_behind_the_batch_under_way() -> None:
    """The batch that is being placed may yet fail, so it is spooled too, ahead of the rest."""
    intake = _filled(5)
    intake.take(2, 10**6)
    spooled: list[int] = []
    assert intake.begin_spilling()

    moved = intake.spill(lambda events: spooled.extend(numbers(events)))

    assert (_events(moved), spooled) == ([2, 3, 4], [0, 1, 2, 3, 4])
    assert intake.batch_is_spooled
    assert (len(intake), intake.emitted) == (2, 0)


def test_no_batch_is_taken_while_the_intake_spills() -> None:
    """What comes meanwhile waits, and no later batch passes for spooled."""
    intake = _filled(3)
    intake.take(1, 10**6)
    assert intake.begin_spilling()
    assert not intake.begin_spilling()

    def append(_: Sequence[Sealed]) -> None:
        intake.finish()
        intake.put(sealed(3))
        assert intake.take(9, 10**6) == []

    intake.spill(append)

    assert _events(intake.take(9, 10**6)) == [3]
    assert not intake.batch_is_spooled


def test_a_batch_is_spilled_once() -> None:
    """A second overflow during the same commit spools only what is new."""
    intake = _filled(2)
    intake.take(1, 10**6)
    spooled: list[int] = []
    for n in (2, 3):
        assert intake.begin_spilling()
        intake.spill(lambda events: spooled.extend(numbers(events)))
        intake.put(sealed(n))

    assert spooled == [0, 1, 2]


def test_what_could_not_be_spilled_still_waits() -> None:
    """If the spool fails, the store is the only hope, and it is asked first."""
    intake = _filled(3)
    assert intake.begin_spilling()
    with pytest.raises(SpoolError):
        intake.spill(raising(SpoolError("no room")))

    assert not intake.begin_spilling()
    assert _events(intake.take(9, 10**6)) == [0, 1, 2]
    assert intake.begin_spilling()


# --- the recorder


async def test_events_of_one_commit_are_those_that_came_during_the_last(
    store: ScriptedStore, recorder: Recorder
) -> None:
    """While a commit is under way the next batch gathers."""
    gate = asyncio.Event()
    store.before = lambda _: gate
    tickets = [recorder.submit([sealed(0)])]
    await until(lambda: store.calls == [1])
    tickets += [recorder.submit([sealed(n)]) for n in range(1, 6)]
    gate.set()
    await asyncio.gather(*(ticket.future for ticket in tickets))

    assert store.calls == [1, 5]


async def test_a_spool_that_fails_does_not_keep_events_from_a_store_that_works(
    store: ScriptedStore, spool: Spool, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backlog that can't grow any more, the store is tried before anything is lost."""
    gate = asyncio.Event()
    store.before = raising(StoreUnavailable("down"))
    assert await _places(recorder, [sealed(0)]) == ["spool"]
    # The drain hangs, so that the backlog is still there; the store answers others.
    store.before = lambda batch: gate if numbers(batch) == [0] else None
    await until(lambda: store.calls[-2:] == [1, 1])
    monkeypatch.setattr(spool, "append", raising(SpoolError("no room")))

    assert await _places(recorder, [sealed(1)]) == ["store"]
    gate.set()
    await until(lambda: not recorder.is_spooling)
    assert sorted(numbers(store.kept)) == [0, 1]


async def test_isolating_a_poison_event_shares_one_deadline(
    store: ScriptedStore, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part of a batch has only what the parts before it left of the store's time."""
    in_time = recorder._backlog.in_time
    given: list[float] = []

    async def note(work: Awaitable[object], seconds: float) -> object:
        given.append(seconds)
        return await in_time(work, seconds)

    def refuse(batch: Sequence[Sealed]) -> None:
        if 5 in numbers(batch):
            raise EventRefused("not this one")

    monkeypatch.setattr(recorder._backlog, "in_time", note)
    store.before = refuse
    places = await _places(recorder, sealed_many(8))

    assert places == ["store"] * 5 + ["lost"] + ["store"] * 2
    assert given == sorted(given, reverse=True)
    assert len(set(given)) == len(given) == 7


async def test_a_failing_spool_does_not_empty_an_overflowing_queue_into_nothing(
    store: ScriptedStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where overflow can't be spooled, events wait on for a store that is only slow."""
    recorder = _recorder(store, spool, Settings(deadline=LONG, max_queue=10))
    await recorder.start()
    monkeypatch.setattr(spool, "append", raising(SpoolError("no room")))
    gate = asyncio.Event()
    store.before = lambda _: gate
    for n in range(30):
        recorder.offer(sealed(n))
    await until(lambda: not recorder._intake._is_spilling)
    gate.set()
    await recorder.flush()
    await recorder.close()

    assert numbers(store.kept) == list(range(30))
    assert recorder.counts["dropped"] == 0


async def test_memory_stays_bounded_when_neither_store_nor_spool_keeps_up(
    store: ScriptedStore, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At four times the queue's size events are dropped, counted, and the loss is recorded."""
    recorder = _recorder(store, spool, Settings(deadline=LONG, max_queue=10))
    await recorder.start()
    with monkeypatch.context() as patch:
        patch.setattr(spool, "append", raising(SpoolError("no room")))
        for n in range(100):
            recorder.offer(sealed(n))
        assert recorder.waiting == 40
        await recorder.flush()
        await recorder.close()

    losses = [event for event in store.kept if b'"loss"' in event.body]
    assert numbers(store.kept)[:40] == list(range(40))
    assert numbers(losses) == [60]


async def test_an_error_in_recording_a_loss_ends_nothing(
    store: ScriptedStore, recorder: Recorder
) -> None:
    """Whatever the store does with an `audit.loss` event, recording goes on."""
    store.before = raising(RuntimeError("not this one"))
    recorder.lose("acme", "a reason")
    await until(lambda: bool(store.calls))
    store.before = lambda _: None

    assert (await _places(recorder, [sealed(1)]))[0] in {"store", "spool"}


# --- losses


def test_losses_add_up_by_tenant_from_any_thread() -> None:
    """Threads count at the same time, and the sum is right."""
    losses = Losses(_seal_loss, _now)

    def lose() -> None:
        for n in range(300):
            losses.count_one(f"tenant-{n % 3}", "a reason")

    threads = [threading.Thread(target=lose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert losses.total == 1_200
    assert {loss.tenant_id: loss.count for loss, _ in losses.take()} == {
        f"tenant-{n}": 400 for n in range(3)
    }
    assert not losses


def test_losses_put_back_add_to_what_came_meanwhile() -> None:
    """A loss that could not be recorded is recorded with the next, over the whole range of time."""
    losses = Losses(_seal_loss, _now)
    early, late = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    losses.count_one("acme", "second")
    losses.put_back([Loss("acme", 4, early, late, ["first"])])

    ((loss, _),) = losses.take()
    assert loss == Loss("acme", 5, early, late, ["second", "first"])
    assert losses.total == 1


def test_a_tenant_that_cannot_be_makes_a_loss_of_the_system() -> None:
    """The count survives, whatever was given as a tenant."""
    losses = Losses(_seal_loss, _now)
    losses.count_one("impossible", "tenant_id: is impossible")

    ((loss, event),) = losses.take()
    assert (loss.tenant_id, event.tenant_id) == ("system", "system")


def test_reasons_are_bounded_and_text() -> None:
    """A flood of long, odd messages makes an event of reasonable size."""
    losses = Losses(_seal_loss, _now)
    for n in range(50):
        losses.count_one("acme", f"{n} \udc80" + "x" * 10_000)

    ((loss, _),) = losses.take()
    assert len(msgspec.json.encode(loss.details())) < 4_000
    assert loss.count == 50
