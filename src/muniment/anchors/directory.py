"""Checkpoints in a directory: one file each, never overwritten.

`<directory>/<origin>/<tree_size>` holds the note. The origin is percent-encoded, so that it is one
name; the size has twenty digits, so that the files stand in order. An origin too long for one name
goes on in directories below, each but the last with a `+` at its end, which no origin has itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, unquote

from muniment.anchors.base import DEFAULT_TIMEOUT, Anchor, Prove
from muniment.checkpoint import MAX_NOTE_BYTES, checkpoint_in, text_of
from muniment.errors import AnchorError, VerificationError
from muniment.stores.trees import Published

_T = TypeVar("_T")

_PART: Final = 200
_DEEPEST: Final = 40
"""More than the longest origin needs, percent-encoded."""
_GOES_ON: Final = "+"
_is_size_name = re.compile(r"[0-9]{20}").fullmatch


class CheckpointDirectory:
    """Keeps checkpoints in a directory, which is made with the first one. It blocks on the disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def keep(self, note: str) -> None:
        """Put a checkpoint there, durable on return; the same one again changes nothing.

        Raises `AnchorError` if another one of that size is there, which says "fork"; the one that
        is there stays. `OSError` if the disk won't have it, `VerificationError` if it is none.
        """
        checkpoint = checkpoint_in(note)
        directory = self._directory_of(checkpoint.origin)
        target = directory / f"{checkpoint.tree_size:020d}"
        _make_directory(directory)
        draft = directory / f".{target.name}.{os.urandom(4).hex()}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(note.encode())
                file.flush()
                os.fsync(descriptor)
            # After a crash here: a hidden draft, which nobody reads. A link never overwrites.
            os.link(draft, target)
        except FileExistsError:
            self._check_same(target, note)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        # Also when it was there already: whoever linked it may have ended before this.
        _sync_directory(directory)

    def read(self, origin: str, tree_size: int) -> str:
        """The note of that size. `OSError` if it can't be read, `VerificationError` if it is none.

        A file that holds a checkpoint of another log or size is none.
        """
        path = self._directory_of(origin) / f"{tree_size:020d}"
        try:
            note = _content(path).decode()
        except UnicodeDecodeError:
            raise VerificationError(f"{path}: is no UTF-8") from None
        try:
            checkpoint = checkpoint_in(note)
        except VerificationError as error:
            raise VerificationError(f"{path}: {error}") from None
        if (checkpoint.origin, checkpoint.tree_size) != (origin, tree_size):
            raise VerificationError(f"{path}: holds a checkpoint of another log or size")
        return note

    def sizes(self, origin: str) -> list[int]:
        """The tree sizes of the checkpoints kept of a log, the smallest first.

        `OSError` if something that is no directory, or can't be read, is in its place.
        """
        try:
            names = [path.name for path in self._directory_of(origin).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if _is_size_name(name))

    def origins(self) -> list[str]:
        """The logs of which there is a checkpoint, in order."""
        found = _origins_under(self.path, "")
        # Whatever else lies there is no checkpoint of ours.
        return sorted(origin for origin, path in found if self._leads_to(origin, path))

    def _leads_to(self, origin: str, path: Path) -> bool:
        try:
            return self._directory_of(origin) == path and bool(self.sizes(origin))
        except UnicodeEncodeError:
            return False
        except OSError:
            return True  # it is there, and whoever looks into it is told why that can't be

    def _directory_of(self, origin: str) -> Path:
        encoded = quote(origin, safe="")
        parts = [encoded[n : n + _PART] for n in range(0, len(encoded), _PART)]
        names = [*(f"{part}{_GOES_ON}" for part in parts[:-1]), parts[-1]]
        # A name that begins with a dot would be hidden, or lead elsewhere.
        return self.path.joinpath(*(re.sub(r"^\.", "%2E", name) for name in names))

    def _check_same(self, path: Path, note: str) -> None:
        there = _content(path).decode(errors="replace")
        # Signatures may have come since: it is the text that says what the log claims.
        if text_of(there) != text_of(note):
            raise AnchorError(
                f"{path}: another checkpoint of that size is there: a fork. The log signed two "
                "different trees, or the file was altered; compare the two"
            )


class DirectoryAnchor(Anchor):
    """Puts checkpoints into a directory: one of another machine or owner, or write-once storage."""

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = DEFAULT_TIMEOUT) -> None:
        super().__init__(f"dir:{os.fspath(path)}", timeout=timeout)
        self._directory = CheckpointDirectory(path)
        # A thread of its own: a hung disk holds it, and nobody else's.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="muniment-anchor")

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        del prove
        await self._in_thread(lambda: self._directory.keep(checkpoint.note))
        return None

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Let go of the thread; what it is at goes on to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _content(path: Path) -> bytes:
    """What a file holds, a byte more than a note may have at most. `OSError` if it is no file.

    Whoever writes to the directory may be who is watched: a pipe or a link must not hold us up.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no file", str(path))
        return file.read(MAX_NOTE_BYTES + 1)


def _origins_under(path: Path, before: str, depth: int = 0) -> Iterator[tuple[str, Path]]:
    try:
        entries = list(path.iterdir())
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_symlink() or not entry.is_dir():
            continue
        if entry.name.endswith(_GOES_ON):
            if depth < _DEEPEST:
                before_it = before + entry.name.removesuffix(_GOES_ON)
                yield from _origins_under(entry, before_it, depth + 1)
        else:
            yield unquote(before + entry.name), entry


def _make_directory(path: Path) -> None:
    try:
        path.mkdir()
    except FileNotFoundError:
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    # Also when it was there already: whoever made it may have ended before this. If we may not
    # read its parent, it was made for us long ago.
    with contextlib.suppress(PermissionError):
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
