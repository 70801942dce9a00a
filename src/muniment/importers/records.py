"""JSON records from a file: one a line, or in `{"Records": [...]}` documents, in bounded memory."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple, cast

from muniment.errors import InvalidEvent
from muniment.importers.files import MAX_LINE_BYTES, lines_of

_PIECE: Final = 64 * 1024
_MIB: Final = 1024 * 1024
_HEAD: Final = 4096
_BEGINNING: Final = re.compile(r'[\s\ufeff]*(?:\{\s*"Records"\s*:\s*)?\[')
_SPACE: Final = re.compile(r"[\s,]*")
_DECODER: Final = json.JSONDecoder()


class Record(NamedTuple):
    """One record and its place, or the problem with it."""

    place: str
    value: dict[str, Any] | None
    problem: InvalidEvent | None = None


def records_of(file: IO[bytes]) -> Iterator[Record]:
    """The file's records. `file` is read once, from its start.

    A bad line is a `Record` with a problem, and the next line follows. A document that breaks off
    or isn't JSON ends with a problem, since nobody can tell where its next record begins.
    """
    head = file.read(_HEAD)
    whole = io.BufferedReader(_Prefixed(head, file), _PIECE)
    if _BEGINNING.match(head.decode(errors="replace")):
        return _Documents(io.TextIOWrapper(whole, "utf-8-sig")).records()
    return _in_lines(cast("IO[bytes]", whole))


def _in_lines(file: IO[bytes]) -> Iterator[Record]:
    for number, line in lines_of(file):
        place = f"{number}"
        if line is None:
            yield Record(place, None, _too_long())
            continue
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            yield Record(place, None, _not_json(error))
        else:
            yield _record(place, value)


class _Documents:
    """Decodes the records of documents one by one, over a buffer that slides along the text."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._buffer = ""
        self._at = 0

    def records(self) -> Iterator[Record]:
        count = 0
        try:
            while self._skip_space():
                beginning = self._match_beginning()
                if beginning is None:
                    yield self._broken(count, "is neither a document with Records nor its end")
                    return
                while self._skip_space() and self._buffer[self._at] != "]":
                    count += 1
                    yield _record(f"record {count}", self._decode())
                if self._at >= len(self._buffer):
                    yield self._broken(count, "breaks off inside Records; get the whole file again")
                    return
                self._at += 1
                if "{" in beginning and self._skip_space() and self._buffer[self._at] == "}":
                    self._at += 1
        except (ValueError, RecursionError) as error:
            yield Record(f"record {max(count, 1)}", None, _not_json(error))
        except _TooLongError:
            yield Record(f"record {count}", None, _too_long())

    def _match_beginning(self) -> str | None:
        while not (found := _BEGINNING.match(self._buffer, self._at)):
            if len(self._buffer) - self._at > _HEAD or not self._fill():
                return None
        self._at = found.end()
        return found[0]

    def _decode(self) -> Any:
        while True:
            try:
                value, self._at = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if len(self._buffer) - self._at > MAX_LINE_BYTES:
                    raise _TooLongError from None
                if not self._fill():
                    raise
            else:
                return value

    def _skip_space(self) -> bool:
        """Move to what is no space or comma; False at the end of the file."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer):
                return True
            if not self._fill():
                return False

    def _fill(self) -> bool:
        """Read on; twice as much each time that a record still isn't whole."""
        left = self._buffer[self._at :]
        more = self._file.read(max(_PIECE, len(left)))
        self._buffer, self._at = left + more, 0
        return bool(more)

    @staticmethod
    def _broken(count: int, problem: str) -> Record:
        return Record(f"after record {count}", None, InvalidEvent("document", problem))


class _TooLongError(Exception):
    """A record is longer than any event can be."""


class _Prefixed(io.RawIOBase):
    """A file whose first bytes were read already, and are put back before the rest."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        if self._head:
            piece, self._head = self._head[: len(view)], self._head[len(view) :]
        else:
            piece = self._rest.read1(len(view))
        view[: len(piece)] = piece
        return len(piece)


def _record(place: str, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(place, value)
    problem = InvalidEvent("record", f"is {type(value).__name__}, not a JSON object")
    return Record(place, None, problem)


def _not_json(error: Exception) -> InvalidEvent:
    if isinstance(error, RecursionError):
        return InvalidEvent("record", "is nested too deep")
    if isinstance(error, UnicodeDecodeError):
        return InvalidEvent("record", f"is not UTF-8 (byte {error.start})")
    return InvalidEvent("record", f"is not JSON: {error}")


def _too_long() -> InvalidEvent:
    return InvalidEvent("record", f"is over {MAX_LINE_BYTES // _MIB} MiB; it is no event")
