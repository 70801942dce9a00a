"""The spool's directories and files, made, locked and written so that a crash at any point is safe.

Each process instance has a directory of its own in the spool's, and holds a `flock` on the file
`lock` in it for as long as it lives. A directory whose lock is free is an orphan.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from muniment.errors import SpoolError

_LOCK: Final = "lock"
_ATTEMPTS: Final = 5
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT: Final = (errno.EACCES, errno.EPERM, errno.EROFS)

is_instance_name = re.compile(r"\d{8}T\d{12}Z-\d+-[0-9a-f]{8}").fullmatch


class HeldDirectory:
    """A process instance's directory, locked by us until `release` or the end of the process."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, base: Path, now: float) -> HeldDirectory:
        """A new directory in `base`, durably there, named after the time so that age is order."""
        make_directory(base)
        for _ in range(_ATTEMPTS):
            # On disk after a crash from here on: a directory without a lock or with a free one,
            # and no segment. Whoever adopts it next removes it.
            path = base / _new_name(now)
            make_directory(path)
            held = cls._locked(path, os.O_EXCL)
            if held is not None:
                return held
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(base))

    @classmethod
    def take_over(cls, path: Path) -> HeldDirectory | None:
        """The orphan at `path`, or None if another process has it, or has removed it."""
        return cls._locked(path, 0)

    @classmethod
    def _locked(cls, path: Path, flags: int) -> HeldDirectory | None:
        flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            lock = os.open(path / _LOCK, flags, 0o600)
        except (FileExistsError, FileNotFoundError):
            return None
        held = cls(path, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock that we opened may have been removed before we locked it.
            if held.is_ours():
                return held
        except BlockingIOError:
            pass
        except BaseException:
            held.release()
            raise
        held.release()
        return None

    def is_ours(self) -> bool:
        """Whether the lock that others see is the one we hold: nobody removed or replaced it."""
        try:
            there, ours = (self.path / _LOCK).stat(), os.fstat(self._lock)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def release(self) -> None:
        """Let go. Closing, unlike LOCK_UN, leaves a lock shared with a forked process locked."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove_if_empty(self) -> None:
        """Remove the directory if nothing but the lock is in it, and let go."""
        with contextlib.suppress(OSError):
            lock = self.path / _LOCK
            if self.is_ours() and list(self.path.iterdir()) == [lock]:
                lock.unlink()
                # After a crash here: an empty directory, which the next one to adopt removes.
                self.path.rmdir()
        self.release()


def _new_name(now: float) -> str:
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{stamp}-{os.getpid()}-{os.urandom(4).hex()}"


def make_directory(path: Path) -> None:
    """Make a directory, with its parents, durably there; it may exist already."""
    try:
        path.mkdir(0o700)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        # Whoever made it may have ended before it was durable, or be about to make it so. If we may
        # not read its parent, it was made for us long ago.
        with contextlib.suppress(PermissionError):
            sync_directory(path.parent)
        return
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_directory(path.parent)
        path.mkdir(0o700, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; the system may take it in parts."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_file(path: Path, data: bytes) -> None:
    """Put a file in place, whole and durable, or not at all; its directory is made if need be."""
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # After a crash here: a hidden draft beside the others, which nobody counts or reads.
        draft.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    sync_directory(path.parent)


def count_files(path: Path) -> int:
    """How many files are in a directory, drafts aside; 0 if it can't be read or isn't there."""
    try:
        return sum(not file.name.startswith(".") for file in path.iterdir())
    except OSError:
        return 0


def spool_error(error: OSError, path: Path) -> SpoolError:
    """The `SpoolError` that says what went wrong, where, and what to do about it."""
    if error.errno in _NO_ROOM:
        remedy = "free some space there, or put the spool elsewhere (spool_dir)"
    elif error.errno in _NO_RIGHT:
        remedy = "let this process's user write there, or put the spool elsewhere (spool_dir)"
    else:
        remedy = "check that disk and path, or put the spool elsewhere (spool_dir)"
    return SpoolError(f"{error.filename or path}: {error.strerror or error}; {remedy}")
