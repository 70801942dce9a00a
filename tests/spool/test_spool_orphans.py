"""What dead processes leave behind, and who gets it."""

from __future__ import annotations

import logging
import os
import signal
import zlib
from pathlib import Path

import pytest

from muniment.spool import Spool
from tests.spool.making import drain, line_of, numbers, process, sealed_many, segments_in

_SPOOLS = """
spool = Spool(directory, segment_bytes=3_000)
for event in sealed_many(40):
    spool.append([event])
spool.peek(10)
spool.acknowledge(int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
"""
_ADOPTS = """
spool = Spool(directory)
print("ready", flush=True)
sys.stdin.readline()
adopted = spool.adopt_orphans()
print(adopted > 0, spool.pending, flush=True)
sys.stdin.readline()
print(*numbers(drain(spool)), flush=True)
"""


def _killed(directory: Path, acknowledged: int = 0) -> None:
    with process(_SPOOLS, directory, str(acknowledged)) as running:
        assert line_of(running) == "ready"
        running.send_signal(signal.SIGKILL)
        running.wait()


def test_what_a_killed_process_spooled_is_drained_by_the_next(tmp_path: Path) -> None:
    """Everything that was appended before SIGKILL is there, in order, and goes when it is stored.

    The directory of the dead process goes with it.
    """
    _killed(tmp_path)

    spool = Spool(tmp_path)
    spool.adopt_orphans()
    assert numbers(drain(spool)) == list(range(40))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_had_acknowledged_may_come_again(tmp_path: Path) -> None:
    """A segment is drained again from its beginning: the store leaves out what it has."""
    _killed(tmp_path, acknowledged=10)

    spool = Spool(tmp_path)
    spool.adopt_orphans()
    drained = numbers(drain(spool))
    assert drained == list(range(drained[0], 40))
    assert drained[0] <= 10


def test_one_of_two_processes_adopts(tmp_path: Path) -> None:
    """Of two processes that look for orphans at the same time one gets each, and it alone."""
    _killed(tmp_path)
    with process(_ADOPTS, tmp_path) as one, process(_ADOPTS, tmp_path) as other:
        both = (one, other)
        for running in both:
            assert line_of(running) == "ready"
        for running in both:
            assert running.stdin is not None
            running.stdin.write("\n")
            running.stdin.flush()
        assert sorted(map(line_of, both)) == ["False 0", "True 40"]
        for running in both:
            assert running.stdin is not None
            running.stdin.write("\n")
            running.stdin.flush()
        assert sorted(map(line_of, both)) == ["", " ".join(map(str, range(40)))]


def test_a_living_process_keeps_its_directory(tmp_path: Path) -> None:
    """Nobody takes over from a process that lives; once it is dead the next one does."""
    spool = Spool(tmp_path)
    with process(_SPOOLS, tmp_path, "0") as running:
        assert line_of(running) == "ready"
        assert spool.adopt_orphans() == 0
        assert spool.pending == 0
    assert spool.adopt_orphans() > 0
    assert spool.pending == 40
    spool.close()


def test_two_spools_of_one_process_keep_apart(tmp_path: Path) -> None:
    """A second log of the same process doesn't drain what belongs to the first."""
    one, other = Spool(tmp_path), Spool(tmp_path)
    one.append(sealed_many(2))

    assert other.adopt_orphans() == 0
    one.close()
    assert other.adopt_orphans() == 1
    other.close()


_LEAVES_A_CHILD = """
import subprocess
spool = Spool(directory)
spool.append(sealed_many(3))
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.readline()
"""


def test_a_program_that_the_dead_process_started_holds_no_lock(tmp_path: Path) -> None:
    """What a process started and left running does not keep its events from being adopted."""
    with process(_LEAVES_A_CHILD, tmp_path) as running:
        child = int(line_of(running))
    try:
        spool = Spool(tmp_path)
        spool.adopt_orphans()
        assert numbers(drain(spool)) == [0, 1, 2]
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_was_adopted_goes_ahead_of_what_is_new(tmp_path: Path) -> None:
    """Orphans are drained oldest first, then our own."""
    for moment, events in ((2e9, sealed_many(6)[2:4]), (1e9, sealed_many(2))):
        left = Spool(tmp_path, clock=iter([moment]).__next__)
        left.append(events)
        left.close()

    spool = Spool(tmp_path)
    spool.append(sealed_many(6)[4:])
    spool.adopt_orphans()
    assert numbers(drain(spool)) == [0, 1, 2, 3, 4, 5]
    spool.close()


def test_an_orphan_of_another_version_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment that we can't read is neither drained nor taken for damaged: its version will."""
    _killed(tmp_path)
    line = b"muniment spool 2"
    for path in segments_in(tmp_path):
        path.write_bytes(b"%s %08x\nsomething new" % (line, zlib.crc32(line)))
    before = segments_in(tmp_path)

    spool = Spool(tmp_path)
    with caplog.at_level(logging.WARNING, "muniment.spool"):
        assert spool.adopt_orphans() == 0
    assert "another version of muniment" in caplog.text
    assert (segments_in(tmp_path), spool.damaged) == (before, 0)


def test_a_crash_before_the_first_record_leaves_nothing_to_drain(tmp_path: Path) -> None:
    """A directory without a segment, or with an empty one, is removed by the next process."""
    for name, files in (("1", ()), ("2", ("lock",)), ("3", ("lock", "00000001.segment"))):
        instance = tmp_path / f"20260101T00000000000{name}Z-1-0000000{name}"
        instance.mkdir()
        for file in files:
            (instance / file).touch()

    spool = Spool(tmp_path)
    spool.adopt_orphans()
    assert (spool.peek(1), spool.damaged) == ([], 0)
    assert list(tmp_path.iterdir()) == []
