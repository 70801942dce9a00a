"""Disks that are full, failing or swept: all of an append is kept, or an error says why not."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from muniment.errors import SpoolError
from muniment.spool import Spool
from tests.spool.making import drain, line_of, numbers, process, sealed, sealed_many, segments_in

_FILLS_THE_DISK = """
import resource
from muniment.errors import SpoolError
spool = Spool(directory)
spool.append([sealed(1)])
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
try:
    spool.append([sealed(n, text="x" * 300) for n in range(100, 150)])
except SpoolError as error:
    print(error, flush=True)
print(spool.pending, flush=True)
spool.append([sealed(2)])
spool.append([sealed(3)])
print(numbers(spool.peek(99)), flush=True)
sys.stdin.readline()
"""


def test_a_full_disk_keeps_nothing_half_and_is_survived(tmp_path: Path) -> None:
    """A batch that does not fit is refused with the remedy, and none of it comes out.

    What was there before and what came after does, in the same process and in the next.
    """
    with process(_FILLS_THE_DISK, tmp_path) as running:
        assert "free some space there, or put the spool elsewhere" in line_of(running)
        assert line_of(running) == "1"
        assert line_of(running) == "[1, 2, 3]"

    spool = Spool(tmp_path)
    spool.adopt_orphans()
    assert numbers(drain(spool)) == [1, 2, 3]
    assert spool.damaged == 0
    spool.close()


def test_a_directory_that_cannot_be_made_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    """A file in the directory's place is named, and once it is gone events are kept."""
    place = tmp_path / "spool"
    place.write_text("in the way")
    spool = Spool(place)

    with pytest.raises(SpoolError, match=r"spool: Not a directory; .*elsewhere \(spool_dir\)"):
        spool.append(sealed_many(1))
    with pytest.raises(SpoolError, match="spool: Not a directory"):
        spool.adopt_orphans()
    with pytest.raises(SpoolError, match="quarantine: Not a directory"):
        spool.quarantine(sealed(1), "refused")
    assert spool.pending == 0

    place.unlink()
    spool.append(sealed_many(1))
    assert numbers(drain(spool)) == [0]
    spool.close()


def test_a_read_only_file_system_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not be written is said so, whatever user we are."""

    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(SpoolError, match="let this process's user write there"):
        Spool(tmp_path / "spool").append(sealed_many(1))


def test_a_failed_sync_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be made durable does not come out, and the next append starts afresh."""
    spool = Spool(tmp_path)
    spool.append([sealed(1)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fail)
        with pytest.raises(SpoolError, match="check that disk"):
            spool.append([sealed(2)])
    spool.append([sealed(3)])

    assert spool.pending == 2
    spool.close()
    following = Spool(tmp_path)
    following.adopt_orphans()
    assert numbers(drain(following)) == [1, 3]
    following.close()


def _fail(_descriptor: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_system_that_writes_in_pieces_gets_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write may take less than it was given; the rest follows."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    spool = Spool(tmp_path)
    spool.append(sealed_many(5))

    assert numbers(drain(spool)) == [0, 1, 2, 3, 4]
    spool.close()


def test_what_is_appended_is_synced_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, and every directory that got a new name for it, are on the disk: power may fail."""
    sync = os.fsync
    synced: list[int] = []

    def note(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    spool = Spool(tmp_path / "state" / "spool")
    spool.append([sealed(1)])
    (path,) = segments_in(spool.directory)
    # From the file up to the directory in which we made the first one.
    wanted = [path, path.parent, spool.directory, spool.directory.parent, tmp_path]
    assert {p.stat().st_ino for p in wanted} <= set(synced)

    synced.clear()
    spool.append([sealed(2)])
    assert synced == [path.stat().st_ino]
    spool.close()


def test_a_directory_swept_away_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a clean-up job removed our files, later events are kept, and the loss is counted."""
    spool = Spool(tmp_path / "spool")
    spool.append([sealed(1)])
    shutil.rmtree(tmp_path / "spool")
    spool.append([sealed(2)])

    assert numbers(drain(spool)) == [2]
    assert spool.damaged == 1
    assert "was removed or taken over" in caplog.text
    spool.close()


def test_a_file_swept_away_from_under_the_writer_is_not_written_to(tmp_path: Path) -> None:
    """An event is not appended to a file that has no name any more."""
    spool = Spool(tmp_path)
    spool.append([sealed(1)])
    (path,) = segments_in(tmp_path)
    path.unlink()
    spool.append([sealed(2)])

    assert numbers(drain(spool)) == [2]
    spool.close()


def test_what_is_swept_away_at_every_try_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever keeps removing what we write is not fought for ever."""
    sync = os.fsync

    def sweep(descriptor: int) -> None:
        sync(descriptor)
        for path in segments_in(tmp_path):
            path.unlink()

    monkeypatch.setattr(os, "fsync", sweep)
    spool = Spool(tmp_path)

    with pytest.raises(SpoolError, match="keep clean-up jobs away"):
        spool.append([sealed(1)])
    assert spool.pending == 0
    spool.close()


def test_a_quarantine_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarantined event is there whole or not at all, drafts included."""
    spool = Spool(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fail_for_files)
        with pytest.raises(SpoolError, match="check that disk"):
            spool.quarantine(sealed(1), "refused")

    assert list((tmp_path / "quarantine").iterdir()) == []
    assert spool.quarantined == 0


def _fail_for_files(descriptor: int) -> None:
    if os.fstat(descriptor).st_mode & 0o100000:
        _fail(descriptor)
