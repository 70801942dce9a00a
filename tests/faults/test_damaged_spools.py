"""Spool files that were damaged while nobody was looking."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from muniment.spool.segment import HEADER, Bytes, Found, scan
from tests.faults.commanding import Commanded, commanded, judged
from tests.faults.oracle import Verdict
from tests.faults.tally import Rounds, Tally

pytestmark = pytest.mark.timeout(600)

_EVENTS = 60


class _Left(NamedTuple):
    """What a killed process left: itself, its spool, and the one file in that, still whole."""

    process: Commanded
    spool: Path
    segment: Path
    records: list[Found]


async def _left_in_spool(data: Path, spool: Path) -> _Left:
    """A process that could reach no store, for `data` isn't there, and was killed."""
    async with commanded(f"sqlite:///{data}/audit.db", spool_dir=spool) as process:
        places, _ = await process.record(_EVENTS, tasks=1)
        await process.kill()
    assert places == ["spool"] * _EVENTS
    segment, records = _only_segment_in(spool)
    assert [record.event.event_id for record in records] == process.acknowledged
    return _Left(process, spool, segment, records)


def _only_segment_in(spool: Path) -> tuple[Path, list[Found]]:
    (segment,) = spool.glob("*/*.segment")
    with Bytes(segment, segment.stat().st_size) as source:
        return segment, [piece for piece in scan(source, 0) if isinstance(piece, Found)]


async def _drained_by_the_next(data: Path, left: _Left, but_for: set[str]) -> Verdict:
    """What is in the store once the next process has drained the spool, and has said so."""
    url = _reachable_store(data)
    async with commanded(url, spool_dir=left.spool) as following:
        stats = await following.drained()
        await following.end()
    assert stats["spool"]["damaged"] == 1
    assert stats["recorded"]["drained"] == _EVENTS - len(but_for)
    for event_id in but_for:
        del left.process.told[event_id]
    verdict, oracle = await judged(url, left.process)
    assert not but_for & set(oracle.event_ids)
    return verdict


def _reachable_store(data: Path) -> str:
    data.mkdir()
    return f"sqlite:///{data}/audit.db"


def _set_aside(spool: Path) -> bytes:
    """What lies under a name of its own, and is not drained."""
    (file,) = (spool / "damaged").iterdir()
    return file.read_bytes()


async def test_a_spool_file_cut_in_the_middle_of_a_record(
    tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """What stands before the cut is drained; the torn record is set aside and counted."""
    random = Random(1)  # noqa: S311 - places, not secrets
    for n in range(rounds(2, 20)):
        data = tmp_path / f"data {n}"
        left = await _left_in_spool(data, tmp_path / f"spool {n}")
        torn = random.choice(left.records)
        whole = left.segment.read_bytes()
        end = random.randrange(torn.start + 1, torn.end)
        left.segment.write_bytes(whole[:end])

        gone = {r.event.event_id for r in left.records if r.end > end}
        verdict = await _drained_by_the_next(data, left, gone)
        tally.add("spool file truncated", "sqlite", verdict)
        assert _set_aside(left.spool) == whole[torn.start : end]


async def test_a_spool_file_with_a_flipped_byte(
    tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """All records but the one that was hit are drained; that one is set aside and counted."""
    random = Random(2)  # noqa: S311 - places, not secrets
    for n in range(rounds(2, 20)):
        data = tmp_path / f"data {n}"
        left = await _left_in_spool(data, tmp_path / f"spool {n}")
        damaged = bytearray(left.segment.read_bytes())
        place = random.randrange(len(damaged))
        damaged[place] ^= 1 << random.randrange(8)
        left.segment.write_bytes(damaged)

        hit = [r for r in left.records if r.start <= place < r.end]
        verdict = await _drained_by_the_next(data, left, {r.event.event_id for r in hit})
        tally.add("spool file with a flipped bit", "sqlite", verdict)
        start, end = (hit[0].start, hit[0].end) if hit else (0, len(HEADER))
        assert _set_aside(left.spool) == damaged[start:end]
