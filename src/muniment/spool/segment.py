"""The spool's segments: files of checksummed events, written by appending and read past damage.

Format 1: the line `muniment spool 1 CRC`, CRC being the CRC-32 of what stands before it in eight
hexadecimal digits; then records. A record is the length of its payload and the payload's CRC-32,
both as big-endian unsigned 32-bit integers, then the payload: a MessagePack array of the time of
spooling (Unix seconds, float 64) and the fields of `Sealed` in their order.

Where a record is damaged, reading goes on at the next offset where a whole one stands. What starts
every payload, two bytes that no ASCII has, finds the candidates; length, CRC and leaf hash decide.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from muniment.merkle import leaf_hash
from muniment.spool.directory import HeldDirectory, write_all
from muniment.stores.base import Sealed


def _header(version: int) -> bytes:
    line = b"muniment spool %d" % version
    return b"%s %08x\n" % (line, zlib.crc32(line))


_VERSION: Final = 1
HEADER: Final = _header(_VERSION)
_LONGEST_HEADER: Final = 64
_ANY_HEADER = re.compile(rb"muniment spool (\d{1,9}) [0-9a-f]{8}\n")

_FRAME: Final = struct.Struct(">II")
_START_OF_PAYLOAD: Final = b"\x98\xcb"
"""MessagePack: an array of eight, of which the first is a 64-bit float."""
_LEAST_PAYLOAD: Final = 48
"""The time and the leaf hash alone take as much: zeros, for one, are never taken for a record."""
_BLOCK: Final = 256 * 1024


class _Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    spooled_at: float
    tenant_id: str
    event_id: str
    body: bytes
    leaf_hash: bytes
    terms: str
    may_repeat: bool
    key: str | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class Found(msgspec.Struct, frozen=True, gc=False):
    """A whole event between two offsets of a segment, and when it was spooled (Unix seconds)."""

    start: int
    end: int
    event: Sealed
    spooled_at: float


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes between two offsets of a segment that are no whole event."""

    start: int
    end: int
    problem: str


def encode_record(event: Sealed, spooled_at: float) -> bytes:
    """The bytes of one record."""
    payload = _encode(
        _Record(
            float(spooled_at),
            event.tenant_id,
            event.event_id,
            event.body,
            event.leaf_hash,
            event.terms,
            event.may_repeat,
            event.key,
        )
    )
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


class Bytes:
    """The first `size` bytes of an open segment, read in blocks. Closes it as a context manager."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._block = memoryview(b"")
        self._start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def at(self, offset: int, count: int) -> memoryview:
        """`count` bytes from `offset` on; fewer where the segment, or its file, ends."""
        count = min(count, self.size - offset)
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._block):
            wanted = min(max(count, _BLOCK), self.size - offset)
            self._block = memoryview(self._read(offset, wanted))
            self._start = offset
            begin = 0
        return self._block[begin : begin + count]

    def _read(self, offset: int, count: int) -> bytes:
        parts = []
        while count > 0:
            part = os.pread(self._descriptor, count, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)


def scan(source: Bytes, offset: int) -> Iterator[Found | Damage]:
    """All that stands from `offset` on, in order: whole events, and what is damaged between them.

    Nothing is left out: each piece begins where the one before it ended.
    """
    if offset == 0:
        offset = len(HEADER)
        if source.at(0, len(HEADER)) != HEADER:
            offset = min(offset, _next_whole(source, 0))
            if offset:
                yield Damage(0, offset, "the header is damaged")
    while offset < source.size:
        piece = _examine(source, offset)
        if isinstance(piece, Found):
            yield piece
            offset = piece.end
        else:
            good = _next_whole(source, offset + 1)
            yield from _damage(source, offset, good, piece)
            offset = good


def _examine(source: Bytes, offset: int) -> Found | str:
    """The event at `offset`, or why there is none."""
    frame = source.at(offset, _FRAME.size)
    if len(frame) < _FRAME.size:
        return "the record is torn"
    length, checksum = _FRAME.unpack(frame)
    start = offset + _FRAME.size
    if not _LEAST_PAYLOAD <= length <= source.size - start:
        return "the record is torn, or its length is damaged"
    payload = source.at(start, length)
    if zlib.crc32(payload) != checksum:
        return "the checksum does not fit"
    try:
        record = _decode(payload)
    except ValueError as error:
        return f"the record holds no event: {error}"
    if leaf_hash(record.body) != record.leaf_hash:
        return "the body does not fit its leaf hash"
    event = Sealed(
        record.tenant_id,
        record.event_id,
        record.body,
        record.leaf_hash,
        record.terms,
        True,  # noqa: FBT003 - may_repeat: it may be in the store, spooled after a failed answer
        record.key,
    )
    return Found(offset, start + length, event, record.spooled_at)


def _next_whole(source: Bytes, offset: int) -> int:
    """The offset of the first whole event from `offset` on, or the segment's end."""
    at = offset + _FRAME.size
    while at < source.size:
        block = bytes(source.at(at, _BLOCK))
        found = block.find(_START_OF_PAYLOAD)
        if found >= 0:
            candidate = at + found - _FRAME.size
            if isinstance(_examine(source, candidate), Found):
                return candidate
            at += found + 1
        elif len(block) < len(_START_OF_PAYLOAD):
            break
        else:
            at += len(block) - len(_START_OF_PAYLOAD) + 1
    return source.size


def _damage(source: Bytes, start: int, end: int, problem: str) -> Iterator[Damage]:
    """Damage from `start` to `end`: record by record if the lengths lead there, else in one piece.

    A length may itself be damaged, so only a chain of lengths that ends at `end` is believed.
    """
    offsets = [start]
    while offsets[-1] < end:
        frame = source.at(offsets[-1], _FRAME.size)
        if len(frame) < _FRAME.size:
            break
        length = _FRAME.unpack(frame)[0]
        if length < _LEAST_PAYLOAD:
            break
        offsets.append(offsets[-1] + _FRAME.size + length)
    if offsets[-1] != end:
        offsets = [start, end]
    for begin, stop in itertools.pairwise(offsets):
        yield Damage(begin, stop, problem)


class Segment:
    """One file of events and how far it is drained. What lies before `size` never changes.

    `acknowledged` is the offset up to which its events are in the store, `remaining` how many are
    not: an estimate until `is_counted`. Both live in memory only: after a crash the whole segment
    is drained again, and the store leaves out what it has.
    """

    def __init__(self, path: Path, size: int, directory: HeldDirectory) -> None:
        self.path = path
        self.size = size
        self.directory = directory
        self.acknowledged = 0
        self.remaining = 0
        self.is_counted = False
        self.known_damage: set[int] = set()
        self.not_set_aside: list[Damage] = []
        self.was_reported = False
        self._descriptor = -1

    @classmethod
    def create(cls, path: Path, directory: HeldDirectory) -> Segment:
        """A new segment, open for writing; there must be no such file."""
        segment = cls(path, 0, directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        segment._descriptor = os.open(path, flags, 0o600)
        segment.is_counted = True
        return segment

    @property
    def pending_bytes(self) -> int:
        """The bytes of records that are not acknowledged."""
        return max(0, self.size - max(self.acknowledged, len(HEADER)))

    @property
    def is_drained(self) -> bool:
        """Whether nothing is left to read."""
        return self.acknowledged >= self.size

    @property
    def is_linked(self) -> bool:
        """Whether the file that is open for writing still has a name."""
        return os.fstat(self._descriptor).st_nlink > 0

    def write(self, records: bytes) -> int:
        """Append and make durable; returns the new size, which `commit` makes the segment's own."""
        data = records if self.size else HEADER + records
        write_all(self._descriptor, data)
        os.fsync(self._descriptor)
        return self.size + len(data)

    def commit(self, size: int, events: int) -> None:
        """Count what was written as the segment's."""
        self.size = size
        self.remaining += events

    def roll_back(self) -> None:
        """Undo a failed write as far as the disk lets us, and write no more.

        A segment whose file can't be cut is read up to `size` only. What lies behind comes to light
        if this process ends before it is drained: then events come that were reported as failed.
        """
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.size)
            os.fsync(self._descriptor)
        self.close()
        if not self.size:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def close(self) -> None:
        """End writing; the segment can still be read."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open(self) -> Bytes:
        """The segment's bytes, for reading."""
        return Bytes(self.path, self.size)

    def count(self, source: Bytes) -> float | None:
        """Count what is left; returns when the first of it was spooled, None if nothing is."""
        found = [p.spooled_at for p in scan(source, self.acknowledged) if isinstance(p, Found)]
        self.remaining = len(found)
        self.is_counted = True
        return found[0] if found else None


def is_of_another_version(path: Path) -> bool:
    """Whether a file is a segment written by another version of muniment, which must read it."""
    with path.open("rb") as file:
        head = _ANY_HEADER.match(file.read(_LONGEST_HEADER))
    if head is None or int(head[1]) == _VERSION:
        return False
    return head[0] == _header(int(head[1]))
