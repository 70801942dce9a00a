from __future__ import annotations

import copy
import enum
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
from muniment.canonical import MAX_DEPTH, MAX_DETAILS_BYTES, canonical_json, encode
from muniment.errors import InvalidEvent
from muniment.event import Change, Outcome, Target
from tests.json_values import event_of, floats, hostile, hostile_scalars, independently, plain


def _nested(levels: int, leaf: Any = None) -> dict[str, Any]:
    """Details of so many levels, the dict itself counted."""
    value = leaf
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


# --- byte for byte RFC 8785


@given(hostile | plain)
@example({})
def test_canonical_json_is_what_rfc8785_says(value: dict[str, Any]) -> None:
    """The canonical JSON of any value is that of the rfc8785 package, byte for byte."""
    assert canonical_json(value) == rfc8785.dumps(value)


@given(hostile | plain, hostile_scalars | plain)
def test_a_body_is_what_rfc8785_says(details: dict[str, Any], value: Any) -> None:
    """The body of an event is the rfc8785 package's encoding of its fields, byte for byte."""
    body = encode(event_of(details, Change(field="f", old=value), Change(field="f", new=value)))
    assert body == independently(details, (value, None), (None, value))


@given(plain | hostile)
def test_both_paths_give_the_same_body(details: dict[str, Any]) -> None:
    """The encoder for hard values gives the body that the fast one gives for easy ones."""
    event = event_of(details, Change(field="f", old=details))
    assert encode(event) == canonical._encode_slowly(event, MAX_DETAILS_BYTES)


@given(plain | hostile)
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
    assert encode(event_of(value, Change(field="f", old=value))) == independently(
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


@given(st.floats(allow_nan=False, allow_infinity=False) | floats)
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
    assert encode(event_of({"v": value})) == independently({"v": becomes})


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
        encode(event_of({"a": [beside, {"b": value}]}))
    assert caught.value.field == "details.a[1].b"
    assert problem in caught.value.problem


@pytest.mark.parametrize(("value", "problem"), _UNFIT)
def test_what_json_cannot_hold_is_refused_in_changes(value: Any, problem: str) -> None:
    """The error names the change, by its place, and the path within."""
    with pytest.raises(InvalidEvent) as caught:
        encode(event_of({}, Change(field="f", old=1), Change(field="f", new=[value])))
    assert caught.value.field == "changes[1].new[0]"
    assert problem in caught.value.problem


def test_a_bad_key_of_details_is_refused_before_its_stamp() -> None:
    """A key that is no text is named as such, also where a processor's stamp repeats it."""
    event = event_of({"\ud800": 1})
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
        encode(event_of(make()))
    assert caught.value.field.startswith("details.")


@pytest.mark.parametrize("beside", [0, 1.0], ids=["fast", "slow"])
def test_nesting_is_bounded_on_both_paths(beside: float) -> None:
    """Details nest as deep as the limit says, and not one level more."""
    fits = _nested(MAX_DEPTH, leaf=beside)
    assert encode(event_of(fits)) == independently(fits)
    with pytest.raises(InvalidEvent, match="nested over 64 levels"):
        encode(event_of(_nested(MAX_DEPTH + 1, leaf=beside)))


@pytest.mark.parametrize("beside", [0, 1.0], ids=["fast", "slow"])
def test_nesting_of_changes_is_bounded_alike(beside: float) -> None:
    """What a field held nests as deep as details do."""
    fits = _nested(MAX_DEPTH, leaf=beside)
    assert encode(event_of({}, Change(field="f", new=fits))) == independently({}, (None, fits))
    with pytest.raises(InvalidEvent, match="nested over 64 levels") as caught:
        encode(event_of({}, Change(field="f", new=_nested(MAX_DEPTH + 1, leaf=beside))))
    assert caught.value.field.startswith("changes[0].new.a[0]")


def test_nesting_beyond_the_interpreters_limit_is_refused_alike() -> None:
    """Details nested thousands of levels deep are as invalid as those of 65."""
    with pytest.raises(InvalidEvent, match="nested over 64 levels"):
        encode(event_of(_nested(5000)))


def test_a_small_object_with_endless_json_is_refused() -> None:
    """Parts that are shared make 40 lists into a million million values: refused, not written."""
    shared: list[Any] = []
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(InvalidEvent, match="beyond the bytes that fit"):
        encode(event_of({"a": shared}))


@pytest.mark.parametrize(
    "details", [{"a": [1, {"b": (2,)}]}, {"a": [1.0, {"é": UUID(int=1)}]}, {"a": [1, {2}]}]
)
def test_encoding_changes_nothing(details: dict[str, Any]) -> None:
    """The caller's details are the same after encoding, on both paths and when it fails."""
    before = copy.deepcopy(details)
    event = event_of(details)
    try:
        encode(event)
    except InvalidEvent:
        assert details == {"a": [1, {2}]}
    assert details == before
    assert event.details is details
