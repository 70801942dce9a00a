from __future__ import annotations

import copy
import enum
import json
import math
import struct
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from muniment import canonical
from muniment.canonical import (
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_DETAILS_BYTES,
    MAX_SAFE_INTEGER,
    canonical_json,
    decode,
    encode,
)
from muniment.errors import InvalidEvent
from muniment.event import Actor, Change, Context, Event, Outcome, Target

_NOON = datetime(2026, 3, 4, 12, 0, 0, 120_000, tzinfo=UTC)
_EVENT_ID = "019cb8b8-1e78-7000-8000-000000000001"

# Characters that escape, sort or encode in a way of their own.
_odd = st.sampled_from('\x00\x08\t\n\x1f "/\\\x7f\x80é\u2028\ud7ff\ue000\uffff\U00010000😀')
_text = st.text(st.characters(codec="utf-8") | _odd, max_size=8)
_plain_key = st.text(st.characters(max_codepoint=127), max_size=8)
_integers = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
_edges = st.builds(
    lambda digits, exponent: float(f"{digits}e{exponent}"),
    st.integers(-(10**17), 10**17),
    st.integers(-24, 24),
)
_floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([-0.0, 1e-7, 1e-6, 9.99e-6, 1e-5, 1e15, 1e16, 1e17, 1e20, 1e21, 5e-324]),
    _edges,
)
_plain_scalars = st.none() | st.booleans() | _integers | _text | st.floats(-1e16, 1e16)
_hostile_scalars = st.none() | st.booleans() | _integers | _text | _floats


def _json(keys: st.SearchStrategy[str], scalars: st.SearchStrategy[Any]) -> Any:
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(keys, values, max_size=5)


_plain = _json(_plain_key, _plain_scalars)
_hostile = _json(_text, _hostile_scalars)


def _event(details: dict[str, Any], *changes: Change) -> Event:
    return Event(
        action="role_assign",
        tenant_id="acme",
        event_id=_EVENT_ID,
        occurred_at=_NOON,
        recorded_at=_NOON,
        actor=Actor.agent("a7", name="Ops\nbot", on_behalf_of=Actor.user("u1", name="Ann 😀")),
        targets=[Target("user", "u2")],  # type: ignore[arg-type] # a list is taken too
        changes=changes,
        context=Context(ip="::1"),
        outcome=Outcome.SUCCESS,
        details=details,
    )


def _independently(details: Any, *changes: tuple[Any, Any]) -> bytes:
    """The body of `_event`, by the rfc8785 package, from the fields spelled out."""
    fields: dict[str, Any] = {
        "action": "role_assign",
        "tenant_id": "acme",
        "event_id": _EVENT_ID,
        "occurred_at": "2026-03-04T12:00:00.120000Z",
        "recorded_at": "2026-03-04T12:00:00.120000Z",
        "actor": {
            "type": "agent",
            "id": "a7",
            "name": "Ops\nbot",
            "on_behalf_of": {"type": "user", "id": "u1", "name": "Ann 😀"},
        },
        "targets": [{"type": "user", "id": "u2"}],
        "context": {"ip": "::1"},
        "outcome": "success",
        "schema_version": 1,
    }
    if details:
        fields["details"] = details
    if changes:
        fields["changes"] = [{"field": "f", "old": old, "new": new} for old, new in changes]
    return rfc8785.dumps(fields)


def _nested(levels: int, leaf: Any = None) -> dict[str, Any]:
    """Details of so many levels, the dict itself counted."""
    value = leaf
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


# --- byte for byte RFC 8785


@given(_hostile | _plain)
@example({})
def test_canonical_json_is_what_rfc8785_says(value: dict[str, Any]) -> None:
    """The canonical JSON of any value is that of the rfc8785 package, byte for byte."""
    assert canonical_json(value) == rfc8785.dumps(value)


@given(_hostile | _plain, _hostile_scalars | _plain)
def test_a_body_is_what_rfc8785_says(details: dict[str, Any], value: Any) -> None:
    """The body of an event is the rfc8785 package's encoding of its fields, byte for byte."""
    body = encode(_event(details, Change(field="f", old=value), Change(field="f", new=value)))
    assert body == _independently(details, (value, None), (None, value))


@given(_plain | _hostile)
def test_both_paths_give_the_same_body(details: dict[str, Any]) -> None:
    """The encoder for hard values gives the body that the fast one gives for easy ones."""
    event = _event(details, Change(field="f", old=details))
    assert encode(event) == canonical._encode_slowly(event, MAX_DETAILS_BYTES)


@given(_plain | _hostile)
@example({"a": 9007199254740991, "b": -1e16, "c": 1.5e-5, "d": 4503599627370495.5})
def test_the_fast_encoder_is_used_only_where_it_is_right(value: dict[str, Any]) -> None:
    """Where the fast encoder is taken to agree with RFC 8785, it does."""
    fast = msgspec.json.encode(value, order="sorted")
    assert not canonical._agrees(value) or fast == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [{}, {"a": [1, -1.5, True, None, "é\u2028\x7f", {"b": (1e-4, 123456789.25)}]}, _nested(64)],
)
def test_easy_values_take_the_fast_path(value: dict[str, Any], monkeypatch: Any) -> None:
    """Events as services record them are never left to the slow encoder."""
    monkeypatch.delattr(canonical, "_encode_slowly")
    assert encode(_event(value, Change(field="f", old=value))) == _independently(
        value, (value, None)
    )


@pytest.mark.parametrize(
    "value",
    [1.0, -0.0, 0.0, 1e-6, 9.5e-6, 1e16, 1e17, 1e20, 123456789012345680000.0, 1e-5],
    ids=repr,
)
def test_the_fast_encoder_is_not_trusted_with_such_floats(value: float) -> None:
    """Integral, tiny and large floats, which the fast encoder may print otherwise, are slow."""
    assert not canonical._agrees({"a": value})


@pytest.mark.parametrize("value", [{"a": 1.0}, {"a": -0.0}, {"a": 1e16}, {"\uffff": 1, "😀": 2}])
def test_the_independent_checker_tells_other_encodings_apart(value: dict[str, Any]) -> None:
    """A body that is not canonical differs from the rfc8785 package's: the comparison can fail."""
    fast = msgspec.json.encode(value, order="sorted")
    assert fast != rfc8785.dumps(value)
    assert canonical_json(value) == rfc8785.dumps(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | _floats)
@example(struct.unpack(">d", bytes.fromhex("44b52d02c7e14af6"))[0])
@example(333333333.33333329)
@example(4.5)
@example(2e-3)
@example(1e-27)
@example(math.ulp(0.0))
def test_numbers_are_printed_as_ecmascript_prints_them(value: float) -> None:
    """Every finite float is printed as the rfc8785 package prints it, and read again the same."""
    text = canonical.ecmascript_number(value)
    assert text.encode() == rfc8785.dumps(value)
    assert float(text) == value


# --- what becomes of values that are not JSON's own


class _Level(enum.IntEnum):
    HIGH = 3


class _Color(enum.Enum):
    RED = "red"


class _Label(str):
    __slots__ = ()


class _Kilo(float):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 3, 4, 12, tzinfo=UTC), "2026-03-04T12:00:00+00:00"),
        (datetime(2026, 3, 4, tzinfo=timezone(timedelta(hours=2))), "2026-03-04T00:00:00+02:00"),
        (date(2026, 3, 4), "2026-03-04"),
        (time(12, 30), "12:30:00"),
        (Decimal("1.10"), "1.10"),
        (_Color.RED, "red"),
        (_Level.HIGH, 3),
        (_Label("x"), "x"),
        (_Kilo(1.5), 1.5),
        ((1, (2,)), [1, [2]]),
        (MappingProxyType({"a": UUID(int=0)}), {"a": "00000000-0000-0000-0000-000000000000"}),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (Target("user", "u2"), {"type": "user", "id": "u2", "name": None}),
        ({_Label("k"): 1, Outcome.DENIED: 2}, {"k": 1, "denied": 2}),
    ],
)
def test_well_known_types_become_json(value: Any, becomes: Any) -> None:
    """Identifiers, times, decimals, enums and containers of any kind have a form in JSON."""
    assert encode(_event({"v": value})) == _independently({"v": becomes})


_UNFIT = [
    (2**53, "2^53-1"),
    (-(2**53), "2^53-1"),
    (10**400, "2^53-1"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (_Kilo("nan"), "nan"),
    (b"bytes", "bytes"),
    (bytearray(b"bytes"), "bytearray"),
    ({1, 2}, "set"),
    (frozenset(), "frozenset"),
    (object(), "object"),
    (1j, "complex"),
    (range(3), "range"),
    ("a\ud800b", "lone surrogate U+D800"),
    ({"\udfff": 1}, "lone surrogate U+DFFF"),
    ({1: "one"}, "has the key 1,"),
    ({None: 1}, "has the key None,"),
    ({("a",): 1}, "not a string"),
]


@pytest.mark.parametrize(("value", "problem"), _UNFIT)
@pytest.mark.parametrize("beside", [0, 1.0], ids=["fast", "slow"])
def test_what_json_cannot_hold_is_refused_in_details(
    value: Any, problem: str, beside: float
) -> None:
    """The error names the path of the value, whatever stands beside it."""
    with pytest.raises(InvalidEvent) as caught:
        encode(_event({"a": [beside, {"b": value}]}))
    assert caught.value.field == "details.a[1].b"
    assert problem in caught.value.problem


@pytest.mark.parametrize(("value", "problem"), _UNFIT)
def test_what_json_cannot_hold_is_refused_in_changes(value: Any, problem: str) -> None:
    """The error names the change, by its place, and the path within."""
    with pytest.raises(InvalidEvent) as caught:
        encode(_event({}, Change(field="f", old=1), Change(field="f", new=[value])))
    assert caught.value.field == "changes[1].new[0]"
    assert problem in caught.value.problem


def test_a_bad_key_of_details_is_refused_before_its_stamp() -> None:
    """A key that is no text is named as such, also where a processor's stamp repeats it."""
    event = _event({"\ud800": 1})
    msgspec.structs.force_setattr(event, "stamped", ("details.\ud800",))
    with pytest.raises(InvalidEvent, match=r"^details: has the lone surrogate"):
        encode(event)


def _circular_dict() -> dict[str, Any]:
    details: dict[str, Any] = {"n": 1}
    details["self"] = details
    details["again"] = [details, details]
    return details


def _circular_list() -> dict[str, Any]:
    loop: list[Any] = []
    loop.append({"loop": loop})
    return {"a": loop}


@pytest.mark.parametrize("make", [_circular_dict, _circular_list])
def test_circular_details_are_refused(make: Any) -> None:
    """Details that contain themselves are refused, and the error says that they may."""
    with pytest.raises(InvalidEvent, match="contains itself") as caught:
        encode(_event(make()))
    assert caught.value.field.startswith("details.")


@pytest.mark.parametrize("beside", [0, 1.0], ids=["fast", "slow"])
def test_nesting_is_bounded_on_both_paths(beside: float) -> None:
    """Details nest as deep as the limit says, and not one level more."""
    fits = _nested(MAX_DEPTH, leaf=beside)
    assert encode(_event(fits)) == _independently(fits)
    with pytest.raises(InvalidEvent, match="nested over 64 levels"):
        encode(_event(_nested(MAX_DEPTH + 1, leaf=beside)))


@pytest.mark.parametrize("beside", [0, 1.0], ids=["fast", "slow"])
def test_nesting_of_changes_is_bounded_alike(beside: float) -> None:
    """What a field held nests as deep as details do."""
    fits = _nested(MAX_DEPTH, leaf=beside)
    assert encode(_event({}, Change(field="f", new=fits))) == _independently({}, (None, fits))
    with pytest.raises(InvalidEvent, match="nested over 64 levels") as caught:
        encode(_event({}, Change(field="f", new=_nested(MAX_DEPTH + 1, leaf=beside))))
    assert caught.value.field.startswith("changes[0].new.a[0]")


def test_nesting_beyond_the_interpreters_limit_is_refused_alike() -> None:
    """Details nested thousands of levels deep are as invalid as those of 65."""
    with pytest.raises(InvalidEvent, match="nested over 64 levels"):
        encode(_event(_nested(5000)))


def test_a_small_object_with_endless_json_is_refused() -> None:
    """Parts that are shared make 40 lists into a million million values: refused, not written."""
    shared: list[Any] = []
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(InvalidEvent, match="beyond the bytes that fit"):
        encode(_event({"a": shared}))


@pytest.mark.parametrize(
    "details", [{"a": [1, {"b": (2,)}]}, {"a": [1.0, {"é": UUID(int=1)}]}, {"a": [1, {2}]}]
)
def test_encoding_changes_nothing(details: dict[str, Any]) -> None:
    """The caller's details are the same after encoding, on both paths and when it fails."""
    before = copy.deepcopy(details)
    event = _event(details)
    try:
        encode(event)
    except InvalidEvent:
        assert details == {"a": [1, {2}]}
    assert details == before
    assert event.details is details


# --- sizes


def _details_of(size: int, character: str = "x") -> dict[str, Any]:
    """Details whose canonical JSON takes so many bytes."""
    room = size - len(b'{"a":""}')
    return {"a": character * (room // len(character.encode()))}


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_details_may_take_as_many_bytes_as_the_limit_says(character: str) -> None:
    """Details are measured in bytes of their JSON; what fits exactly, fits."""
    details = _details_of(MAX_DETAILS_BYTES, character)
    assert decode(encode(_event(details))).details == details


@pytest.mark.parametrize(("limit", "over"), [(MAX_DETAILS_BYTES, 1), (1000, 1), (1000, 10**6)])
def test_details_over_the_limit_are_refused(limit: int, over: int) -> None:
    """A byte too many is refused, and the error says how many there are."""
    with pytest.raises(InvalidEvent) as caught:
        encode(_event(_details_of(limit + over)), max_details_bytes=limit)
    assert caught.value.field == "details"
    assert f"takes {limit + over} bytes" in caught.value.problem


def test_many_values_fit_if_their_bytes_do() -> None:
    """The limit is one of bytes: as many values as they can hold are encoded."""
    details = {"a": [0.0] * (MAX_DETAILS_BYTES // 2 - 4)}
    assert encode(_event(details)) == _independently(details)
    assert MAX_DETAILS_BYTES - len(canonical_json(details)) < 2


def test_a_body_over_its_limit_is_refused() -> None:
    """Changes have no limit of their own, but the body has."""
    half = "x" * (MAX_BODY_BYTES // 2)
    fits = Change(field="f", old=half, new="x")
    assert len(encode(_event({}, fits, fits))) > MAX_BODY_BYTES
    with pytest.raises(InvalidEvent, match=r"^event: takes \d+ bytes") as caught:
        encode(_event({}, fits, fits, fits))
    assert str(MAX_BODY_BYTES + MAX_DETAILS_BYTES) in caught.value.problem


# --- and back


@given(_hostile | _plain, _hostile_scalars | _hostile)
def test_an_event_comes_back_from_its_body(details: dict[str, Any], value: Any) -> None:
    """Decoding a body gives an equal event, whose body is the same bytes."""
    event = _event(details, Change(field="f", old=value, new=value))
    body = encode(event)
    again = decode(body)
    assert again == event
    assert encode(again) == body
    assert decode(body.decode()) == event


@pytest.mark.parametrize(
    "event",
    [
        Event(action="x"),
        Event(action="x", context=Context(), idempotency_key="k1"),
        Event(action="x", occurred_at=datetime(1970, 1, 1, tzinfo=UTC)),
        Event(
            action="x",
            occurred_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            stamped=("reason",),
            reason="",
            salt="00",
        ),
    ],
)
def test_every_field_comes_back(event: Event) -> None:
    """Whatever is left out or given empty, the event in a body is the one that was encoded."""
    assert decode(encode(event)) == event


def test_a_body_is_one_line() -> None:
    """A body can be a line of JSONL: no newline in a text breaks it."""
    body = encode(_event({"a": "line\nline\r\u2028"}))
    assert b"\n" not in body
    assert b"\r" not in body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "event"),
        (b"[]", "event"),
        (b"{}", "event"),
        (b"null", "event"),
        (b"\xff", "event"),
        (b'{"action":"x"', "event"),
        (b'{"action":"x"}{}', "event"),
        (b'{"action":5}', "action"),
        (b'{"action":""}', "action"),
        (b'{"action":"\\ud800"}', "event"),
        ("\ud800", "event"),
        (b'{"action":"x","outcome":"won"}', "outcome"),
        (b'{"action":"x","actor":{"type":"user","id":""}}', "actor"),
        (b'{"action":"x","actor":{"type":"robot","id":"a"}}', "actor.type"),
        (b'{"action":"x","targets":[{"type":"a","id":"b"},{"type":"a","id":""}]}', "targets[1]"),
        (b'{"action":"x","targets":[{"type":"a"}]}', "targets[0]"),
        (b'{"action":"x","context":{"ip":5}}', "context.ip"),
        (b'{"action":"x","details":[]}', "details"),
        (b'{"action":"x","details":' + b'{"a":' * 3000 + b"1" + b"}" * 3001, "event"),
        (b'{"action":"x","details":{"a":' + b"[" * 900 + b"1.0" + b"]" * 900 + b"}}", "event"),
        (b'{"action":"x","occurred_at":"2026-03-04T12:00:00"}', "occurred_at"),
        (b'{"action":"x","occurred_at":"0001-01-01T00:00:00+23:00"}', "occurred_at"),
        (b'{"action":"x","occurred_at":"soon"}', "occurred_at"),
        (b'{"action":"x","event_id":"ffffffff-ffff-7000-8000-000000000000"}', "event_id"),
        (b'{"action":"x","schema_version":"1"}', "schema_version"),
    ],
)
def test_what_is_no_body_is_refused(body: bytes | str, field: str) -> None:
    """Bytes that are not an event's JSON raise `InvalidEvent` with the field, and nothing else."""
    with pytest.raises(InvalidEvent) as caught:
        decode(body)
    assert caught.value.field == field


@given(st.binary(max_size=40) | st.text(st.characters(exclude_categories=()), max_size=20))
def test_decoding_anything_raises_nothing_else(body: bytes | str) -> None:
    """No input to `decode` raises anything but `InvalidEvent`."""
    with pytest.raises(InvalidEvent):
        decode(body)


@given(
    st.dictionaries(
        st.sampled_from(Event.__struct_fields__),
        st.one_of(
            _hostile_scalars,
            st.lists(_hostile_scalars, max_size=2),
            st.sampled_from(["2026-03-04T12:00:00Z", _EVENT_ID, "success", "9999-12-31T23:59:59Z"]),
            st.fixed_dictionaries({"type": st.sampled_from(["user", ""]), "id": _text}),
        ),
    )
)
def test_an_event_that_is_decoded_can_be_encoded(fields: dict[str, Any]) -> None:
    """Whatever fields JSON gives an event, it is refused, or sound enough to be stored again."""
    body = json.dumps({"action": "x", **fields}).encode()
    try:
        event = decode(body)
    except InvalidEvent:
        return
    assert decode(encode(event)) == event
