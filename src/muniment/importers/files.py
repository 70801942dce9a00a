"""Files of JSON for importers: plain or gzip, a path or `-` for standard input, read in pieces."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from muniment.errors import MunimentError
from muniment.importers.base import Progress

STANDARD_INPUT: Final = "-"
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
_PIECE: Final = 64 * 1024
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class SourceFile:
    """A file to import, opened anew for each reading."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.name = "standard input" if source == STANDARD_INPUT else source
        self._raw: io.BufferedReader | None = None
        self._done = 0
        self._total: int | None = None

    def progress(self) -> Progress:
        """Bytes read of the file as it is on disk, and its size (unknown for a pipe)."""
        if self._raw is not None and self._total is not None:
            self._done = self._raw.tell()
        return Progress(self._done, self._total)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file's bytes, unpacked if they are gzip. Raises `MunimentError` naming the file."""
        try:
            with self._opened() as raw:
                self._raw = raw
                try:
                    yield _unpacked(raw)
                finally:
                    self._done, self._raw = self.progress().done, None
        except (OSError, EOFError, zlib.error) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise MunimentError(f"{self.name} can't be read: {problem}") from error

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        if self._source != STANDARD_INPUT:
            path = Path(self._source)
            with path.open("rb") as raw:
                if path.is_file():
                    self._total = path.stat().st_size
                yield raw
            return
        given = sys.stdin.buffer
        if isinstance(given, io.BufferedReader):
            yield given
            return
        raw = io.BufferedReader(cast("io.RawIOBase", given))
        try:
            yield raw
        finally:
            raw.detach()


def _unpacked(raw: io.BufferedReader) -> IO[bytes]:
    if raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    return raw


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The file's lines that aren't blank, with their numbers; None for one over 8 MiB."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(_PIECE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line.strip():
            yield number, line
