"""Whether lines are canonical bodies of one tenant's events, many at once.

What holds is what `canonical.decode` and `canonical.encode` say: a line is a body if it is the
encoding of the event that it is decoded to. For most lines the same is found out some four times
as fast: all are decoded as `_Body`, which only takes what `Event` takes, encoded by msgspec and
compared. `encode_lines` puts a newline behind each, and no body has a newline within: if the bytes
are the same, each line is the encoding of one body, however the lines were taken apart.

That leaves what msgspec writes otherwise than RFC 8785, and what `Event` checks of itself. Each is
excluded below; a line of which that isn't plain goes the slow way, which alone refuses lines.
"""

from __future__ import annotations

import array
import binascii
import gc
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter, lt
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from muniment import canonical
from muniment.canonical import MAX_SAFE_INTEGER
from muniment.errors import InvalidEvent
from muniment.event import MAX_CHANGES, MAX_TARGETS
from muniment.evidence.lines import MAX_LINE_BYTES

_MAX_REMEMBERED: Final = 500_000
_FEW: Final = 8
_DEPTH: Final = 6

# Of so many characters, no text has more bytes of UTF-8 than `checks` allows.
_Id = Annotated[str, Meta(min_length=1, max_length=128)]
_Text = Annotated[str, Meta(max_length=1024)]
_Time = Annotated[datetime, Meta(tz=True)]


def _value(*floats: Any) -> Any:
    """Any JSON value, not nested deeper than most are, with numbers that msgspec writes as JCS.

    The exception, floats without a fraction, is caught by `_has_integral`.
    """
    integer = Annotated[int, Meta(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)]
    scalar: Any = None | bool | str | integer
    for each in floats:
        scalar |= each
    value: Any = scalar
    for _ in range(_DEPTH):
        value = scalar | list[value] | dict[str, value]
    return value


_VALUE: Final = _value()
_VALUE_OR_FLOAT: Final = _value(Annotated[float, Meta(gt=1e-5, lt=1e16)])
_ActorType = Literal["user", "agent", "service", "system"]
_TenantT = TypeVar("_TenantT")
_ValueT = TypeVar("_ValueT")

# The fields stand in the order of their names, so that nothing need be sorted but details.


class _ThirdActor(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    id: _Id
    name: _Text | None = None
    type: _ActorType


class _SecondActor(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    id: _Id
    name: _Text | None = None
    on_behalf_of: _ThirdActor | None = None
    type: _ActorType


class _Actor(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    id: _Id
    name: _Text | None = None
    on_behalf_of: _SecondActor | None = None
    type: _ActorType


class _Change(msgspec.Struct, Generic[_ValueT], kw_only=True, gc=False):
    field: _Text
    new: _ValueT
    old: _ValueT


class _Context(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    approval_id: _Id | None = None
    ip: _Id | None = None
    parent_run_id: _Id | None = None
    request_id: _Id | None = None
    run_id: _Id | None = None
    service: _Id | None = None
    session_id: _Id | None = None
    span_id: _Id | None = None
    trace_id: _Id | None = None
    user_agent: _Text | None = None


class _Target(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    id: _Id
    name: _Text | None = None
    type: _Id


class _Body(msgspec.Struct, Generic[_TenantT, _ValueT], omit_defaults=True, kw_only=True, gc=False):
    """An event as its body has it. Nothing but JSON made it, so it is in no cycle: no GC."""

    action: _Id
    actor: _Actor
    changes: Annotated[list[_Change[_ValueT]], Meta(max_length=MAX_CHANGES)] = []
    context: _Context | None = None
    details: dict[str, _ValueT] = {}
    event_id: str
    idempotency_key: _Id | None = None
    occurred_at: _Time
    organization_id: _Id | None = None
    outcome: Literal["success", "failure", "denied", "unknown"]
    reason: _Text | None = None
    recorded_at: _Time | None = None
    salt: _Text | None = None
    schema_version: Annotated[int, Meta(ge=1, le=9999)]
    stamped: list[str] = []
    targets: Annotated[list[_Target], Meta(max_length=MAX_TARGETS)] = []
    tenant_id: _TenantT


_encode_lines = msgspec.json.Encoder(order="deterministic").encode_lines
_event_id = attrgetter("event_id")
_occurred_at = attrgetter("occurred_at")
_recorded_at = attrgetter("recorded_at")
_tzinfo = attrgetter("tzinfo")
_CONTEXT_IDS: Final = tuple(f for f in _Context.__struct_fields__ if f != "user_agent")

_has_integral = re.compile(rb"\.0[,}\]]").search
_BEYOND_THE_BMP: Final = tuple(bytes([lead]) for lead in range(0xF0, 0xF5))
_LATEST_EXACT: Final = 4e9  # up to the year 2096 a float is within a quarter microsecond of a time
_FORM: Final = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\n"
_TO_FORM: Final = bytes(
    ord("x") if c in b"0123456789abcdef" else c if c in b"-\n" else ord("?") for c in range(256)
)


class BodyFault(Exception):
    """One of the lines is no body of an event of this tenant."""

    def __init__(self, number: int, problem: str) -> None:
        self.number = number
        """Which of the lines, from 0 on."""
        self.problem = problem
        super().__init__(number, problem)


class BodyChecker:
    """Checks the bodies of one tenant, and remembers what it saw of them."""

    def __init__(self, tenant_id: str) -> None:
        self._tenant_id = tenant_id
        # These types are made at run time, and no type checker follows them.
        body: Any = _Body
        tenant: Any = Literal[tenant_id]
        self._decode_lines = msgspec.json.Decoder(body[tenant, _VALUE]).decode_lines
        self._decode_floats = msgspec.json.Decoder(body[tenant, _VALUE_OR_FLOAT]).decode_lines
        self._has_floats = False
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._in_order: deque[Sequence[str]] | None = deque()
        """What came so far, until something comes out of order."""
        self._latest = ""
        self._kept = 0
        self.first_occurred_at: datetime | None = None
        self.last_occurred_at: datetime | None = None

    def check_quickly(self, chunk: bytes, count: int) -> bool:
        """Whether a chunk of so many lines is all bodies, without doubt. If not, `check` tells."""
        with _without_collection():
            ids = self._quickly(chunk, count)
        if ids is not None:
            self._remember(ids)
        return ids is not None

    def check(self, lines: Sequence[bytes]) -> None:
        """Raise `BodyFault` at a line that isn't canonical, or not this tenant's, or comes twice.

        An event_id that comes twice is found if at most half a million events lie between.
        """
        with _without_collection():
            ids = self._ids_of(lines, 0)
        self._remember(ids)

    def _remember(self, ids: Sequence[str]) -> None:
        if not ids or self._goes_on(ids):
            return
        count = len(self._young)
        known = not self._young.isdisjoint(ids)
        if self._old and not known:  # most files have no old ones, and asking takes its time
            known = not self._old.isdisjoint(ids)
        if not known:
            self._young.update(ids)
        if known or len(self._young) != count + len(ids):
            self._complain(ids, known=known)
        if len(self._young) >= _MAX_REMEMBERED:
            self._old, self._young = self._young, set()

    def _goes_on(self, ids: Sequence[str]) -> bool:
        """Whether all ids so far stand in order, so that none came twice, and none is looked up."""
        if self._in_order is None:
            return False
        if ids[0] > self._latest and all(map(lt, ids, ids[1:])):
            self._in_order.append(ids)
            self._latest = ids[-1]
            self._kept += len(ids)
            while self._kept - len(self._in_order[0]) >= _MAX_REMEMBERED:
                self._kept -= len(self._in_order.popleft())
            return True
        self._young = set(chain.from_iterable(self._in_order))
        self._in_order = None
        return False

    def _quickly(self, chunk: bytes, count: int) -> list[str] | None:
        """The event_ids of a chunk's lines if all are plain bodies; None if that isn't sure."""
        if not count:
            return []
        bodies = self._decoded(chunk)
        if bodies is None or len(bodies) != count or _encode_lines(bodies) != chunk:
            return None
        if self._has_floats and _has_integral(chunk):
            return None
        if b"\\" in chunk or b"\x7f" in chunk or not chunk.isascii():
            lines = chunk.split(b"\n")
            lines.pop()
            if not all(map(_is_plain, lines, bodies)):
                return None
        ids = list(map(_event_id, bodies))
        times = list(map(_occurred_at, bodies))
        seconds = list(map(datetime.timestamp, times))
        first, last = min(seconds), max(seconds)
        if first < 0 or last > _LATEST_EXACT or not _are_utc(bodies, times):
            return None
        if not _are_ids_of(ids, seconds):
            return None
        self._see([times[seconds.index(first)], times[seconds.index(last)]])
        return ids

    def _decoded(self, chunk: bytes) -> list[_Body[Any, Any]] | None:
        """What the lines are decoded to, if that is easy. Many logs have no floats at all."""
        if not self._has_floats:
            with suppress(msgspec.MsgspecError, ValueError, RecursionError):
                return self._decode_lines(chunk)
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            bodies = self._decode_floats(chunk)
            self._has_floats = True
            return bodies
        return None

    def _slowly(self, line: bytes, number: int) -> str:
        """The event_id of a line that is a body."""
        try:
            event = canonical.decode(line)
            if event.tenant_id != self._tenant_id:
                raise BodyFault(number, f"is an event of another tenant, {event.tenant_id}")
            if canonical.encode(event, max_details_bytes=MAX_LINE_BYTES) != line:
                raise BodyFault(number, "is an event, but not in its canonical form (RFC 8785)")
        except InvalidEvent as error:
            raise BodyFault(number, f"is no event: {error}") from None
        self._see([event.occurred_at])
        return event.event_id

    def _see(self, times: Sequence[datetime]) -> None:
        first, last = min(times), max(times)
        if self.first_occurred_at is None or first < self.first_occurred_at:
            self.first_occurred_at = first
        if self.last_occurred_at is None or last > self.last_occurred_at:
            self.last_occurred_at = last

    def _ids_of(self, lines: Sequence[bytes], first: int) -> list[str]:
        """The event_ids of lines that are bodies; else raises `BodyFault`."""
        if len(lines) > 1:
            quick = self._quickly(b"\n".join(lines) + b"\n", len(lines))
            if quick is not None:
                return quick
        if len(lines) > _FEW:
            half = len(lines) // 2
            ids = self._ids_of(lines[:half], first)
            return ids + self._ids_of(lines[half:], first + half)
        return [self._slowly(line, first + n) for n, line in enumerate(lines)]

    def _complain(self, ids: Sequence[str], *, known: bool) -> None:
        """Name the first line whose id came before: in the file, or among these."""
        seen = self._old | self._young if known else set()
        for n, event_id in enumerate(ids):
            if event_id in seen:
                raise BodyFault(n, f"has the event_id {event_id}, which stands in the file twice")
            seen.add(event_id)


def _is_plain(line: bytes, body: _Body[Any, Any]) -> bool:
    """Whether msgspec sorts the keys of a body as JCS does, and no id has a control character.

    Such a character is escaped, or U+007F, or has C2 as the first byte of its UTF-8.
    """
    if not line.isascii() and _sorts_otherwise(line):
        return False
    if b"\\" not in line and b"\xc2" not in line and b"\x7f" not in line:
        return True
    outer = _without_details(line, body)
    if b"\\" not in outer and b"\xc2" not in outer and b"\x7f" not in outer:
        return True
    return all(map(str.isprintable, _ids_of_body(body)))


def _sorts_otherwise(line: bytes) -> bool:
    """Whether UTF-16 units may have another order than bytes of UTF-8.

    That needs characters from U+E000 on, and others beyond U+FFFF.
    """
    if b"\xee" not in line and b"\xef" not in line:
        return False
    return any(lead in line for lead in _BEYOND_THE_BMP)


def _without_details(line: bytes, body: _Body[Any, Any]) -> bytes:
    """A body without its details, which may hold any text.

    No string has these bytes, for a quote within one stands behind a backslash; and without
    changes, the first such key and the last such one are the body's own.
    """
    start = line.find(b'"details":{')
    if start < 0 or body.changes:
        return line
    return line[:start] + line[line.rfind(b'"event_id":"') :]


def _ids_of_body(body: _Body[Any, Any]) -> Iterator[str]:
    """Every text of a body that may have no control character."""
    yield body.action
    yield body.idempotency_key or ""
    yield body.organization_id or ""
    actor: _Actor | _SecondActor | _ThirdActor | None = body.actor
    while actor is not None:
        yield actor.id
        actor = getattr(actor, "on_behalf_of", None)
    for target in body.targets:
        yield target.id
        yield target.type
    if body.context is not None:
        yield from (text for text in map(body.context.__getattribute__, _CONTEXT_IDS) if text)


def _are_ids_of(ids: Sequence[str], seconds: Sequence[float]) -> bool:
    """Whether each id is a UUIDv7, in lower case, of the millisecond of its time.

    No id is longer or has a newline: there would be a newline too many, or at another place.
    """
    text = "\n".join(ids).encode() + b"\n"
    count = len(ids)
    if text.translate(_TO_FORM) != _FORM * count:
        return False
    if text[14::37] != b"7" * count or text[19::37].translate(None, b"89ab"):
        return False
    halves = array.array("Q", binascii.unhexlify(text.translate(None, b"-\n")))
    if sys.byteorder == "little":
        halves.byteswap()
    # In milliseconds; so far from whole microseconds a float isn't.
    after = [
        second * 1000 - (half >> 16) for second, half in zip(seconds, halves[::2], strict=True)
    ]
    return min(after) > -0.0005 and max(after) < 0.9995


def _are_utc(bodies: Sequence[_Body[Any, Any]], times: Sequence[datetime]) -> bool:
    zones = set(map(_tzinfo, times))
    recorded = list(map(_recorded_at, bodies))
    zones.update(map(_tzinfo, filter(None, recorded) if None in recorded else recorded))
    return zones == {UTC}


@contextmanager
def _without_collection() -> Iterator[None]:
    """Spare the garbage collector thousands of small objects that are gone in a moment."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
