from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from muniment.errors import SpoolError
from muniment.spool import Spool
from tests.spool.making import (
    drain,
    line_of,
    numbers,
    process,
    sealed,
    sealed_many,
    segments_in,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A spool's directory that does not exist yet."""
    return tmp_path / "state" / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    """An empty spool with segments of a few events each."""
    spool = Spool(directory, segment_bytes=2_000)
    yield spool
    spool.close()


class Clock:
    """Seconds that pass only when a test says so."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


# --- order


def test_events_come_out_in_the_order_they_went_in(spool: Spool) -> None:
    """What is drained is what was appended, in that order, over many segments and batches."""
    for start in range(0, 60, 3):
        spool.append([sealed(n) for n in range(start, start + 3)])

    assert numbers(drain(spool, at_once=7)) == list(range(60))


def test_an_event_comes_out_as_it_went_in(spool: Spool) -> None:
    """Every field is kept; only `may_repeat` is set, for it may have been stored before."""
    event = msgspec.structs.replace(sealed(1, text="ünï\U0001f9ea"), key="once")

    spool.append([event])

    assert spool.peek(1) == [msgspec.structs.replace(event, may_repeat=True)]


def test_what_is_not_acknowledged_is_peeked_at_again(spool: Spool) -> None:
    """Peeking forgets nothing: only acknowledging does."""
    spool.append(sealed_many(5))
    spool.peek(5)

    assert numbers(spool.peek(5)) == [0, 1, 2, 3, 4]


def test_part_of_a_peek_may_be_acknowledged_and_the_rest_later(spool: Spool) -> None:
    """A batch may be acknowledged piece by piece."""
    spool.append(sealed_many(30))
    spool.peek(20)
    spool.acknowledge(3)
    spool.acknowledge(14)

    assert numbers(drain(spool)) == list(range(17, 30))


def test_acknowledging_more_than_was_peeked_at_is_an_error(spool: Spool) -> None:
    """What nobody has seen can't be acknowledged, and nothing is."""
    spool.append(sealed_many(3))
    spool.peek(2)
    with pytest.raises(SpoolError, match="3 events acknowledged, 2 peeked at"):
        spool.acknowledge(3)

    assert spool.pending == 3


def test_a_peek_is_bounded_by_bytes_too(spool: Spool) -> None:
    """A peek of large events ends at `max_bytes`, and yet holds one event at least."""
    spool.append([sealed(n, text="x" * 1_000) for n in range(6)])

    assert numbers(spool.peek(6, max_bytes=3_500)) == [0, 1]
    assert numbers(spool.peek(6, max_bytes=1)) == [0]


def test_appending_goes_on_behind_what_is_being_drained(spool: Spool) -> None:
    """Events that come while a batch is under way come out behind it, once."""
    spool.append(sealed_many(4))
    first = spool.peek(4)
    spool.append([sealed(4), sealed(5)])
    spool.acknowledge(4)

    assert numbers([*first, *drain(spool)]) == [0, 1, 2, 3, 4, 5]


def test_threads_append_whole_batches(spool: Spool) -> None:
    """Any thread may append: nothing is lost, and each one's events keep their order."""

    def append(start: int) -> None:
        for n in range(start, start + 20):
            spool.append([sealed(n)])

    threads = [threading.Thread(target=append, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    drained = numbers(drain(spool))
    for start in (0, 100, 200):
        assert [n for n in drained if n // 100 == start // 100] == list(range(start, start + 20))


# --- files


def test_nothing_is_made_before_there_is_something_to_keep(directory: Path) -> None:
    """A spool that was never needed leaves no trace."""
    spool = Spool(directory)
    spool.adopt_orphans()
    assert spool.peek(1) == []
    spool.append([])
    spool.close()

    assert not directory.exists()


def test_segments_roll_over_and_go_when_they_are_drained(spool: Spool, directory: Path) -> None:
    """No segment outgrows its size, and one whose events are all stored is deleted."""
    for n in range(12):
        spool.append([sealed(n)])
    before = segments_in(directory)
    assert len(before) > 2
    assert all(path.stat().st_size <= 2_000 for path in before)

    spool.peek(11)
    spool.acknowledge(11)
    assert segments_in(directory) == before[-1:]

    spool.peek(1)
    spool.acknowledge(1)
    assert segments_in(directory) == []


def test_an_event_larger_than_a_segment_has_one_of_its_own(spool: Spool) -> None:
    """The size of a segment bounds no event."""
    spool.append([sealed(0)])
    spool.append([sealed(1, text="x" * 10_000)])
    spool.append([sealed(2)])

    assert numbers(drain(spool)) == [0, 1, 2]


def test_a_drained_spool_that_is_closed_leaves_an_empty_directory(
    spool: Spool, directory: Path
) -> None:
    """Nothing of a process instance stays behind when nothing of it is needed."""
    spool.append(sealed_many(3))
    drain(spool)
    spool.close()

    assert list(directory.iterdir()) == []


def test_what_is_left_at_the_close_is_there_for_the_next(spool: Spool, directory: Path) -> None:
    """Closing keeps what is not acknowledged, and the next spool finds it, once."""
    spool.append(sealed_many(30))
    spool.peek(30)
    spool.acknowledge(28)
    spool.close()

    following = Spool(directory)
    following.adopt_orphans()
    drained = numbers(drain(following))
    following.close()
    assert drained[-2:] == [28, 29]
    assert len(drained) == len(set(drained))


def test_only_its_owner_can_read_a_spool(spool: Spool, directory: Path) -> None:
    """Events are nobody else's business: directories are 0700, files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        spool.append(sealed_many(1))
        spool.quarantine(sealed(1), "refused")
    finally:
        os.umask(before)

    modes = {path: path.stat().st_mode & 0o777 for path in (directory, *directory.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


# --- figures


def test_figures_tell_what_waits(directory: Path) -> None:
    """`pending` counts events, `pending_bytes` their records, `oldest_age` since the first came."""
    clock = Clock()
    spool = Spool(directory, clock=clock)
    assert (spool.pending, spool.pending_bytes, spool.oldest_age()) == (0, 0, None)

    spool.append(sealed_many(2))
    clock.now += 60
    spool.append([sealed(2)])
    clock.now += 5
    (path,) = segments_in(directory)
    header = len(path.read_bytes().partition(b"\n")[0]) + 1
    assert (spool.pending, spool.oldest_age()) == (3, 65.0)
    assert spool.pending_bytes == path.stat().st_size - header

    spool.peek(2)
    spool.acknowledge(2)
    spool.peek(1)
    assert (spool.pending, spool.oldest_age()) == (1, 5.0)

    spool.acknowledge(1)
    assert (spool.pending, spool.pending_bytes, spool.oldest_age()) == (0, 0, None)
    spool.close()


def test_a_clock_that_jumps_back_makes_no_age_negative(directory: Path) -> None:
    """The age of what waits is never below zero."""
    clock = Clock()
    spool = Spool(directory, clock=clock)
    spool.append(sealed_many(1))
    clock.now -= 3_600

    assert spool.oldest_age() == 0.0
    assert numbers(drain(spool)) == [0]
    spool.close()


def test_figures_of_what_was_adopted_are_right_at_once(spool: Spool, directory: Path) -> None:
    """The next spool knows how many events wait, and since when, before it has drained any."""
    spool.append(sealed_many(9))
    figures = (spool.pending, spool.pending_bytes)
    spool.close()

    following = Spool(directory, clock=lambda: 4_000_000_000.0)
    following.adopt_orphans()
    assert (following.pending, following.pending_bytes) == figures
    assert (following.oldest_age() or 0) > 1_000_000_000
    following.close()


def test_figures_cost_no_look_at_the_disk(spool: Spool, directory: Path) -> None:
    """Asking for figures reads nothing: they are the same when all the files are gone."""

    def figures() -> tuple[float | None, ...]:
        ours = (spool.pending, spool.pending_bytes, spool.damaged, spool.quarantined)
        return (*ours, spool.oldest_age(4_000_000_000.0))

    spool.append(sealed_many(4))
    spool.quarantine(sealed(4), "refused")
    before = figures()
    shutil.rmtree(directory)

    assert figures() == before
    assert before[:4] == (4, before[1], 0, 1)


# --- quarantine


def test_a_quarantined_event_can_be_read_with_the_reason(spool: Spool) -> None:
    """The file says why, when, which event of which tenant, and holds the body as it is."""
    event = sealed(7, text="ü", tenant_id="zoë")

    path = spool.quarantine(event, "too long a word")

    there = msgspec.json.decode(path.read_bytes())
    assert path.name == f"{event.event_id}.json"
    assert there.pop("quarantined_at").endswith("+00:00")
    assert there == {
        "reason": "too long a word",
        "event_id": event.event_id,
        "tenant_id": "zoë",
        "body": msgspec.json.decode(event.body),
    }


def test_the_same_event_is_quarantined_once(spool: Spool) -> None:
    """Again, even for another reason, is the same file, and counts once."""
    event = sealed(1)
    first = spool.quarantine(event, "a reason")
    content = first.read_bytes()

    assert spool.quarantine(event, "another reason") == first
    assert first.read_bytes() == content
    assert spool.quarantined == 1


def test_another_event_of_the_same_id_is_quarantined_beside_it(spool: Spool) -> None:
    """Nothing in quarantine is written over."""
    event = sealed(1)
    other = msgspec.structs.replace(sealed(2), event_id=event.event_id)

    paths = [spool.quarantine(e, "refused") for e in (event, other, event, other)]

    assert [path.name for path in paths[:2]] == [
        f"{event.event_id}.json",
        f"{event.event_id}.2.json",
    ]
    assert paths[2:] == paths[:2]
    assert spool.quarantined == 2


def test_a_body_that_is_no_json_is_quarantined_as_text(spool: Spool) -> None:
    """Whatever the store refused is shown, as far as it is text."""
    event = msgspec.structs.replace(sealed(1), body=b'{"broken": \xff')

    path = spool.quarantine(event, "lone \udc80 surrogate")

    there = msgspec.json.decode(path.read_bytes())
    assert (there["body"], there["reason"]) == ('{"broken": \\xff', "lone \\udc80 surrogate")


def test_the_next_spool_counts_what_is_in_quarantine(spool: Spool, directory: Path) -> None:
    """What earlier processes put into quarantine is not forgotten."""
    spool.quarantine(sealed(1), "refused")
    spool.close()

    following = Spool(directory)
    following.adopt_orphans()
    assert following.quarantined == 1


# --- fork

_FORKS = """
spool = Spool(directory)
spool.append([sealed(1)])
child = os.fork()
if child == 0:
    print(spool.pending, len(spool.peek(9)), flush=True)
    spool.append([sealed(2)])
    print(len({path.parent for path in directory.glob("*/*.segment")}), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(numbers(spool.peek(9)), flush=True)
sys.stdin.readline()
"""


def test_a_forked_child_has_a_spool_of_its_own(directory: Path) -> None:
    """The child starts empty and in a directory of its own; what is its parent's stays so."""
    with process(_FORKS, directory) as parent:
        assert line_of(parent) == "0 0"
        assert line_of(parent) == "2"
        assert line_of(parent) == "[1]"
        spool = Spool(directory)
        spool.adopt_orphans()
        assert numbers(drain(spool)) == [2]  # the child's, which is dead; the parent lives
    spool.adopt_orphans()
    assert numbers(drain(spool)) == [1]
    spool.close()


def test_a_fork_while_another_thread_is_spooling_leaves_the_child_a_free_lock(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's spool works, whoever was inside the parent's when it forked."""
    hooks: list[Callable[[], None]] = []
    monkeypatch.setattr(
        os, "register_at_fork", lambda *, after_in_child: hooks.append(after_in_child)
    )
    spool = Spool(directory)
    spool.append([sealed(1)])
    spool._lock.acquire()
    (in_child,) = hooks
    in_child()

    spool.append([sealed(2)])
    assert numbers(drain(spool)) == [2]
    spool.close()
