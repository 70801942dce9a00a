"""Segments that a crash, a disk or a person has damaged: what is whole is drained, and no more."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment.spool import Spool
from muniment.spool.segment import HEADER, encode_record
from muniment.stores.base import Sealed
from tests.spool.making import damaged_in, drain, number_of, numbers, sealed, segments_in

_EVENTS = [sealed(n, text="x" * (40 * n)) for n in range(5)]
_RECORDS = [encode_record(event, 1e9) for event in _EVENTS]
_STARTS = [len(HEADER) + sum(map(len, _RECORDS[:n])) for n in range(6)]
_WHOLE = HEADER + b"".join(_RECORDS)


def _orphan(directory: Path, *contents: bytes) -> None:
    """What a dead process left: segments of these contents."""
    instance = directory / "20260101T000000000000Z-1-00000000"
    instance.mkdir(parents=True)
    for n, content in enumerate(contents):
        (instance / f"{n + 1:08d}.segment").write_bytes(content)


def _drained(directory: Path) -> tuple[list[Sealed], int]:
    """What comes out of what was left there, and how many records were counted as damaged."""
    spool = Spool(directory)
    spool.adopt_orphans()
    events = drain(spool)
    damaged = spool.damaged
    spool.close()
    return events, damaged


def _flip(content: bytes, offset: int, mask: int = 0x01) -> bytes:
    return content[:offset] + bytes([content[offset] ^ mask]) + content[offset + 1 :]


_GARBAGE = b"\x98\xcb\xff" * 99
_CASES: dict[str, tuple[bytes, list[int], list[bytes]]] = {
    "a record torn at the end": (_WHOLE[:-7], [0, 1, 2, 3], [_RECORDS[4][:-7]]),
    "a length torn at the end": (
        _WHOLE[: _STARTS[4] + 3],
        [0, 1, 2, 3],
        [_RECORDS[4][:3]],
    ),
    "a flipped byte in a body": (
        _flip(_WHOLE, _STARTS[2] + 150),
        [0, 1, 3, 4],
        [_flip(_RECORDS[2], 150)],
    ),
    "a flipped byte in a length": (
        _flip(_WHOLE, _STARTS[2], 0x40),
        [0, 1, 3, 4],
        [_flip(_RECORDS[2], 0, 0x40)],
    ),
    "two damaged records side by side": (
        _flip(_flip(_WHOLE, _STARTS[1] + 99), _STARTS[2] + 99),
        [0, 3, 4],
        [_flip(_RECORDS[1], 99), _flip(_RECORDS[2], 99)],
    ),
    "a damaged header": (_flip(_WHOLE, 3), [0, 1, 2, 3, 4], [_flip(HEADER, 3)]),
    "a file cut in its header": (HEADER[:9], [], [HEADER[:9]]),
    "a tail of zeros": (_WHOLE + bytes(4096), [0, 1, 2, 3, 4], [bytes(4096)]),
    "zeros where records were": (
        _WHOLE[: _STARTS[3]] + bytes(_STARTS[5] - _STARTS[3]),
        [0, 1, 2],
        [bytes(_STARTS[5] - _STARTS[3])],
    ),
    # The place of the header and what follows it are set aside each for itself.
    "nothing but garbage": (
        _GARBAGE,
        [],
        [_GARBAGE[: len(HEADER)], _GARBAGE[len(HEADER) :]],
    ),
}


@pytest.mark.parametrize(("content", "whole", "set_aside"), _CASES.values(), ids=[*_CASES])
def test_what_is_whole_is_drained_and_the_rest_set_aside(
    tmp_path: Path, content: bytes, whole: list[int], set_aside: list[bytes]
) -> None:
    """Whole records come out in order; damaged bytes are kept as they were found, and counted."""
    _orphan(tmp_path, content)

    events, damaged = _drained(tmp_path)

    assert numbers(events) == whole
    assert damaged_in(tmp_path) == set_aside
    assert damaged == len(set_aside)
    assert segments_in(tmp_path) == []


def test_damage_in_one_segment_leaves_the_others_alone(tmp_path: Path) -> None:
    """The segments behind a damaged one are drained as ever."""
    _orphan(tmp_path, HEADER + _RECORDS[0][:-1], HEADER + _RECORDS[1], HEADER + _RECORDS[2])

    assert numbers(_drained(tmp_path)[0]) == [1, 2]


def test_damage_is_logged_and_counted_by_the_next_spool_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody needs to look at the disk to learn that something was damaged."""
    _orphan(tmp_path, _WHOLE[:-7])
    with caplog.at_level(logging.WARNING, "muniment.spool"):
        _drained(tmp_path)
    assert str(tmp_path / "damaged") in caplog.text

    assert _drained(tmp_path) == ([], 1)


def test_much_damage_is_little_to_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage everywhere is one warning, and a second that says how often it occurred."""
    broken = HEADER + b"".join(_flip(_RECORDS[0], 99) + _RECORDS[1] for _ in range(200))
    _orphan(tmp_path, broken)
    with caplog.at_level(logging.WARNING, "muniment.spool"):
        assert _drained(tmp_path)[1] == 200
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith("'damage': 199 more")


def test_what_is_put_aside_can_be_counted_anew(tmp_path: Path) -> None:
    """Whoever clears up sees the figures fall, without a restart."""
    _orphan(tmp_path, _WHOLE[:-7])
    spool = Spool(tmp_path)
    spool.adopt_orphans()
    drain(spool)
    quarantined = spool.quarantine(_EVENTS[0], "no")
    assert (spool.damaged, spool.quarantined) == (1, 1)
    for path in (quarantined, *(tmp_path / "damaged").iterdir()):
        path.unlink()
    spool.recount()
    assert (spool.damaged, spool.quarantined) == (0, 0)
    spool.close()


def test_the_same_damage_is_set_aside_once(tmp_path: Path) -> None:
    """A process that dies after setting damage aside leaves the next one nothing to add."""
    _orphan(tmp_path, _WHOLE[:-7])
    spool = Spool(tmp_path)
    spool.adopt_orphans()
    assert numbers(spool.peek(9)) == [0, 1, 2, 3]
    spool.close()

    assert _drained(tmp_path)[1] == 1
    assert len(damaged_in(tmp_path)) == 1


def test_a_segment_is_kept_until_its_damage_is_set_aside(tmp_path: Path) -> None:
    """Where damage can't be copied, events are drained all the same, and nothing is deleted."""
    _orphan(tmp_path, _WHOLE[:-7])
    (tmp_path / "damaged").write_text("in the way")
    events, damaged = _drained(tmp_path)
    assert (numbers(events), damaged) == ([0, 1, 2, 3], 1)
    assert len(segments_in(tmp_path)) == 1

    (tmp_path / "damaged").unlink()
    _drained(tmp_path)
    assert damaged_in(tmp_path) == [_RECORDS[4][:-7]]
    assert segments_in(tmp_path) == []


def test_damage_under_a_living_spool_is_found_as_well(tmp_path: Path) -> None:
    """What was written whole and is damaged on the disk since is set aside, not taken for good."""
    spool = Spool(tmp_path)
    spool.append(_EVENTS)
    (path,) = segments_in(tmp_path)
    path.write_bytes(_flip(path.read_bytes(), _STARTS[3] + 60))

    assert numbers(drain(spool)) == [0, 1, 2, 4]
    assert (spool.pending, spool.damaged) == (0, 1)
    spool.close()


def test_a_segment_cut_under_a_living_spool_is_counted(tmp_path: Path) -> None:
    """Records that are gone from under us are not silently fewer."""
    spool = Spool(tmp_path)
    spool.append(_EVENTS)
    (path,) = segments_in(tmp_path)
    path.write_bytes(path.read_bytes()[: _STARTS[3]])

    assert numbers(drain(spool)) == [0, 1, 2]
    assert spool.damaged > 0
    spool.close()


def test_a_removed_segment_is_counted_and_the_others_are_drained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A clean-up job's victims are counted as damaged, one by one."""
    spool = Spool(tmp_path, segment_bytes=len(HEADER) + 1)
    for event in _EVENTS:
        spool.append([event])
    segments_in(tmp_path)[1].unlink()

    with caplog.at_level(logging.WARNING, "muniment.spool"):
        assert numbers(drain(spool)) == [0, 2, 3, 4]
    assert "was removed with 1 events in it" in caplog.text
    assert (spool.damaged, spool.pending) == (1, 0)
    spool.close()


def test_a_segment_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept and logged, and its neighbours are drained."""
    spool = Spool(tmp_path, segment_bytes=len(HEADER) + 1)
    for event in _EVENTS[:3]:
        spool.append([event])
    path = segments_in(tmp_path)[1]
    kept = path.rename(tmp_path / "kept")
    path.mkdir()  # a read of it fails, for root too

    with caplog.at_level(logging.WARNING, "muniment.spool"):
        assert numbers(spool.peek(9)) == [0, 2]
    spool.acknowledge(2)
    assert "can't be read" in caplog.text
    assert spool.pending == 1

    path.rmdir()
    kept.rename(path)
    assert numbers(drain(spool)) == [1]
    spool.close()


def _lost(events: Sequence[Sealed]) -> list[int]:
    """Which of the five are missing; that the others are as they were and in order is certain."""
    found = numbers(events)
    assert found == sorted(found)
    for event in events:
        original = _EVENTS[number_of(event)]
        assert (event.body, event.leaf_hash, event.event_id, event.terms, event.tenant_id) == (
            original.body,
            original.leaf_hash,
            original.event_id,
            original.terms,
            original.tenant_id,
        )
    return [n for n in range(5) if n not in found]


def _after(damage: Callable[[bytes], bytes]) -> tuple[list[int], int]:
    """What five events lose to some damage, and how many bytes of theirs were set aside."""
    with tempfile.TemporaryDirectory() as directory:
        _orphan(Path(directory), damage(_WHOLE))
        events, _ = _drained(Path(directory))
        return _lost(events), sum(map(len, damaged_in(Path(directory))))


@settings(max_examples=80)
@given(offset=st.integers(0, len(_WHOLE) - 1), mask=st.integers(1, 255))
def test_any_flipped_byte_costs_its_own_record_at_most(offset: int, mask: int) -> None:
    """Wherever a byte is changed, no event comes out changed, and no other record is lost.

    What does not come out is set aside, to the byte.
    """
    hit = [n for n in range(5) if _STARTS[n] <= offset < _STARTS[n + 1]]

    lost, set_aside = _after(lambda whole: _flip(whole, offset, mask))

    assert lost == hit
    assert set_aside == (len(_RECORDS[hit[0]]) if hit else len(HEADER))


@settings(max_examples=60)
@given(length=st.integers(0, len(_WHOLE)))
def test_any_cut_costs_only_what_is_behind_it(length: int) -> None:
    """Wherever a file is cut, all records that are still whole come out."""
    lost, set_aside = _after(lambda whole: whole[:length])

    assert lost == [n for n in range(5) if _STARTS[n + 1] > length]
    torn = [start for start in (0, *_STARTS) if start <= length][-1]
    assert set_aside == length - torn


@settings(max_examples=60)
@given(
    start=st.integers(0, len(_WHOLE)),
    end=st.integers(0, len(_WHOLE)),
    noise=st.binary(max_size=300),
)
def test_any_stretch_replaced_costs_only_what_it_touches(
    start: int, end: int, noise: bytes
) -> None:
    """Whatever is written over any part of a file, of whatever length, the rest comes out."""
    start, end = sorted((start, end))

    lost, _ = _after(lambda whole: whole[:start] + noise + whole[end:])

    touched = [n for n in range(5) if _STARTS[n] < end and _STARTS[n + 1] > start]
    assert set(lost) <= set(touched)
