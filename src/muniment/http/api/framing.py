"""Where one event ends and the next begins, in a body that is still arriving.

Bytes go in as they come; what comes out does not depend on how they were cut. No more than one
event's bytes are kept, and one that is too long is not kept at all: None stands in its place.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from muniment.http.problems import Refusal

_BOM: Final = b"\xef\xbb\xbf"
_OUTSIDE_TEXT: Final = re.compile(rb'["\[\]{},]')
_IN_TEXT: Final = re.compile(rb'["\\]')


class Framing(Protocol):
    """Finds the events in a body."""

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The events that end in this chunk."""

    def finish(self) -> list[bytes | None]:
        """What is left at the end of a whole body. Raises a 400 if it can't end there."""


class Lines:
    """NDJSON: an event a line, ended by LF or CRLF, the last one perhaps by neither.

    Blank lines are none.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = bytearray()
        self._is_too_long = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The lines that end in this chunk."""
        head, *lines = chunk.split(b"\n")
        if not lines:
            self._keep(head)
            return []
        tail = lines.pop()
        self._keep(head)
        found = self._take()
        if len(chunk) > self._longest and max(map(len, lines), default=0) > self._longest:
            found += [line if len(line) <= self._longest else None for line in lines]
        else:
            found += lines
        self._keep(tail)
        return [line for line in found if line is None or not (not line or line.isspace())]

    def finish(self) -> list[bytes | None]:
        """The last line, if it had no end."""
        return [line for line in self._take() if line is None or line.strip()]

    def _keep(self, part: bytes) -> None:
        if len(self._rest) + len(part) > self._longest:
            self._is_too_long = True
            self._rest.clear()
        if not self._is_too_long:
            self._rest += part

    def _take(self) -> list[bytes | None]:
        line = None if self._is_too_long else bytes(self._rest)
        if self._is_first and line is not None:
            line = line.removeprefix(_BOM)
        self._is_first = self._is_too_long = False
        self._rest.clear()
        return [line]


class Elements:
    """A JSON array of events. It must be whole: what stands around it is no event."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._part = bytearray()
        self._is_too_long = False
        self._depth = 0
        self._is_in_text = False
        self._is_escaped = False
        self._is_over = False
        self._count = 0
        self._problem: Refusal | None = None

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The elements that end in this chunk. Raises a 400 behind what is no array."""
        if self._problem is not None:
            raise self._problem
        found: list[bytes | None] = []
        start = position = 0 if self._depth or self._is_over else self._begin(chunk)
        while position < len(chunk) and not self._is_over:
            if self._is_escaped:
                self._is_escaped = False
                position += 1
                continue
            mark = (_IN_TEXT if self._is_in_text else _OUTSIDE_TEXT).search(chunk, position)
            if mark is None:
                break
            position = mark.end()
            if self._ends_element(mark.group()):
                self._keep(chunk[start : position - 1])
                found += self._take()
                start = position
        if not self._is_over:
            self._keep(chunk[start:])
        elif chunk[position:].strip():
            self._problem = _malformed("something follows the array")
        return found

    def finish(self) -> list[bytes | None]:
        """Nothing: an array ends by itself."""
        if self._problem is None and not self._is_over:
            self._problem = _malformed("the array does not end")
        if self._problem is not None:
            raise self._problem
        return []

    def _begin(self, chunk: bytes) -> int:
        """Where the first element begins; the end of the chunk while there is no array yet."""
        self._part += chunk
        text = bytes(self._part).removeprefix(_BOM).lstrip()
        if not text or _BOM.startswith(text):
            del self._part[len(_BOM) :]
            return len(chunk)
        if not text.startswith(b"["):
            self._problem = _malformed("it is no array")
            return len(chunk)
        self._part.clear()
        self._depth = 1
        return len(chunk) - len(text) + 1

    def _ends_element(self, mark: bytes) -> bool:
        """Whether the element ends before this mark, and with it perhaps the array."""
        if self._is_in_text:
            self._is_escaped = mark == b"\\"
            self._is_in_text = self._is_escaped
        elif mark == b'"':
            self._is_in_text = True
        elif mark in b"[{":
            self._depth += 1
        elif mark in b"]}":
            self._depth -= 1
            self._is_over = self._depth == 0
        return self._is_over or (mark == b"," and self._depth == 1 and not self._is_in_text)

    def _keep(self, part: bytes) -> None:
        if len(self._part) + len(part) > self._longest:
            self._is_too_long = True
            self._part.clear()
        if not self._is_too_long:
            self._part += part

    def _take(self) -> list[bytes | None]:
        element = None if self._is_too_long else bytes(self._part)
        self._part.clear()
        self._is_too_long = False
        is_none = self._is_over and not self._count and element is not None and not element.strip()
        self._count += 1
        return [] if is_none else [element]


def _malformed(problem: str) -> Refusal:
    return Refusal(400, "malformed", f"The body is not a JSON array: {problem}.")
