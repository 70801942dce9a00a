from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from muniment import canonical
from muniment.canonical import MAX_SAFE_INTEGER
from muniment.errors import InvalidEvent
from muniment.event import Actor, Change, Context, Target
from muniment.evidence import bodies as evidence_bodies
from muniment.evidence.bodies import BodyChecker, BodyFault
from muniment.evidence.lines import MAX_LINE_BYTES
from tests.proofs.evidence_files import TENANT, bodies, body

_odd = st.sampled_from('\x00\n\x1f"\\/\x7f\x80\x9f\xa0é\u200b\u3000\ud7ff\ue000\uffff\U00010000😀')
_text = st.text(st.characters(codec="utf-8") | _odd, max_size=6)
_id = st.text(_odd | st.characters(codec="utf-8"), min_size=1, max_size=6)
_numbers = st.one_of(
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e-6, 1e-4),
    st.floats(1e15, 1e17),
    st.sampled_from([1.0, 0.0, -0.0, 1e-5, 1e16, 0.5, -0.5, MAX_SAFE_INTEGER, 10**21, 10**20]),
)
_scalars = st.none() | st.booleans() | _numbers | _text
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_details = st.dictionaries(_text, _values, max_size=3)
_raw_fields = st.fixed_dictionaries(
    {},
    optional={
        "action": _id | st.just(""),
        "actor": st.fixed_dictionaries(
            {"type": st.sampled_from(["user", "robot"]), "id": _id}, optional={"name": _text}
        ),
        "changes": st.lists(
            st.fixed_dictionaries({"field": _text, "new": _values, "old": _values}), max_size=2
        ),
        "context": st.dictionaries(
            st.sampled_from(["ip", "user_agent", "trace_id", "other"]), _text, max_size=3
        ),
        "details": _details,
        "idempotency_key": st.none() | _id,
        "occurred_at": st.sampled_from(
            [
                "2026-03-04T12:00:00.123456Z",
                "2026-03-04T12:00:00Z",
                "2026-03-04T12:00:00.000000Z",
                "2026-03-04T12:00:00+00:00",
                "2026-03-04T13:00:00.000001+01:00",
                "2026-03-04T12:00:00",
                "2026-03-04T12:00:00.999999Z",
                "2026-03-04T12:00:01Z",
                "2026-03-04T11:59:59.999999Z",
            ]
        ),
        "outcome": st.sampled_from(["success", "won", None]),
        "organization_id": _text,
        "reason": _text | st.none(),
        "recorded_at": st.sampled_from(
            [None, "2026-03-04T12:00:00Z", "2026-03-04T13:00:00+01:00", "2026-03-04T12:00:00"]
        ),
        "salt": st.sampled_from(["", "x" * 1024, "x" * 4096, "é" * 2049]),
        "schema_version": st.sampled_from([0, 1, 2, 9999, 10000, 1.0]),
        "stamped": st.lists(_text, max_size=2),
        "targets": st.lists(
            st.fixed_dictionaries({"type": _id, "id": _text}, optional={"name": _text}), max_size=2
        ),
        "tenant_id": st.sampled_from([TENANT, "beta", "acme "]),
        "event_id": st.sampled_from(
            [
                "019cb8b8-1e00-7000-8000-000000000001",
                "019CB8B8-1E00-7000-8000-000000000001",
                "019cb8b8-1e00-4000-8000-000000000001",
                "019cb8b8-1e00-7000-c000-000000000001",
                "019cb8b8-1dff-7000-8000-000000000001",
                "019cb8b8-1e01-7000-8000-000000000001",
                "019cb8b81e00700080000000000000001",
                "019cb8b8-1e00-7000-8000-00000000001\n",
                "\n019cb8b8-1e00-7000-8000-00000000001",
                "",
            ]
        ),
        "unknown": _scalars,
    },
)


def _raw(fields: dict[str, Any], *, canonical_numbers: bool = True) -> bytes:
    """The line of an event with some fields exchanged: canonical, or as Python writes JSON."""
    whole = {**json.loads(body(0)), "occurred_at": "2026-03-04T12:00:00Z", **fields}
    if canonical_numbers:
        try:
            return rfc8785.dumps(whole)
        except rfc8785.CanonicalizationError:
            pass
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _is_body(line: bytes) -> bool:
    """Whether a line is the body of an event of this tenant, told the slow way."""
    try:
        event = canonical.decode(line)
        again = canonical.encode(event, max_details_bytes=MAX_LINE_BYTES)
    except InvalidEvent:
        return False
    return event.tenant_id == TENANT and again == line


def _is_taken(*lines: bytes) -> bool:
    try:
        BodyChecker(TENANT).check(lines)
    except BodyFault:
        return False
    return True


def _is_quick(*lines: bytes) -> bool:
    return BodyChecker(TENANT).check_quickly(b"\n".join(lines) + b"\n", len(lines))


def _check(line: bytes) -> None:
    is_body = _is_body(line)
    assert is_body or not _is_quick(line)
    neighbour = body(50)
    assert _is_taken(line) == _is_taken(line, neighbour) == _is_taken(neighbour, line) == is_body


# --- as strict as the slow way, and no stricter


_ODD: list[dict[str, Any]] = [
    {},
    {"details": {"a": 1.0}},
    {"details": {"a": -0.0}},
    {"details": {"a": 1e-7}},
    {"details": {"a": 1e16}},
    {"details": {"a": 10**20}},
    {"details": {"a": 2**53}},
    {"details": {"\uffff": 1, "😀": 2}},
    {"details": {}},
    {"action": "a\nb"},
    {"action": "a\x7fb"},
    {"action": "a\x85b"},
    {"context": {}},
    {"targets": []},
    {"recorded_at": "2026-03-04T13:00:00+01:00"},
    {"changes": [{"field": "f", "new": {"details": {}}, "old": 1}], "action": "x"},
    {
        "changes": [{"field": "f", "new": {"details": {}}, "old": 1}],
        "context": {"ip": "a\nb"},
        "details": {"event_id": "a\nb"},
    },
    {"targets": [{"id": "a\nb", "type": "x"}], "details": {"event_id": "a"}},
    {"context": {"ip": "a\nb"}, "details": {"details": {}}},
]


@pytest.mark.parametrize("fields", _ODD, ids=str)
def test_an_odd_line_is_taken_if_the_slow_way_takes_it(fields: dict[str, Any]) -> None:
    """Canonical, or as Python's JSON has it: a line is a body to both ways, or to none."""
    _check(_raw(fields))
    _check(_raw(fields, canonical_numbers=False))


@given(st.builds(_raw, _raw_fields, canonical_numbers=st.booleans()))
def test_a_line_is_taken_if_the_slow_way_takes_it(line: bytes) -> None:
    """Alone or among others, a line is taken if it is the encoding of its event, and only then."""
    _check(line)


@given(_details, st.data())
def test_a_line_with_any_byte_changed_is_judged_the_same(
    details: dict[str, Any], data: st.DataObject
) -> None:
    """Edits of a byte or a few, which leave it JSON or not, are judged as the slow way does."""
    line = bytearray(_raw({"details": details}))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(line) - 1))
        piece = data.draw(
            st.sampled_from([b"", b" ", b"0", b".0", b"e1", b",", b"\\u0041", b"\\/", b"\xc2\x85"])
            | st.binary(max_size=2)
        )
        line[place : place + data.draw(st.integers(0, 2))] = piece
    if b"\n" not in line:
        _check(bytes(line))


@given(st.data())
def test_lines_cut_at_other_places_are_no_bodies(data: st.DataObject) -> None:
    """Two bodies are two lines only where the one ends and the other begins."""
    both = body(0) + b"," + body(1)
    cut = data.draw(st.sampled_from([n for n, byte in enumerate(both) if byte in b",:[]{}"]))
    first, second = both[:cut], both[cut + 1 :]
    assert _is_taken(first, second) == (cut == len(body(0)))
    assert not _is_taken(body(2), first + second)


def test_events_as_services_record_them_are_told_quickly() -> None:
    """Long texts, floats, line breaks and emoji in details need no slow way."""
    lines = [
        body(0, details={"text": "line\nline “é” 😀 \x7f", "ratio": 0.25, "n": MAX_SAFE_INTEGER}),
        body(1, reason="no \\ way", actor=Actor.user("é")),
        body(2, changes=(Change(field="a", old=None, new={"b": [1, "x"]}),), context=Context()),
        body(3, targets=(Target("a", "b"), Target("c", "d", "😀"))),
        body(4, details={"a": [{"b": {"c": [{"d": 1}]}}]}, recorded_at=None),
        body(
            5, actor=Actor.agent("a", on_behalf_of=Actor.agent("b", on_behalf_of=Actor.user("c")))
        ),
    ]
    assert _is_quick(*lines)


@pytest.mark.parametrize(
    "fields",
    [
        {"details": {"a": 1e17}},
        {"details": {"a": -0.5}},
        {"details": {"a": [[[[[[[[1]]]]]]]]}},
        {"details": {"\uffff": 1, "😀": 2}},
        {"action": "x" * 512},
        {"reason": "x" * 4096},
    ],
    ids=str,
)
def test_what_is_hard_to_tell_is_told_the_slow_way(fields: dict[str, Any]) -> None:
    """A body that is rare in its form is a body all the same, and so are its neighbours."""
    line = body(3, **fields)
    assert not _is_quick(line)
    assert _is_taken(*bodies(3), line, *(body(n) for n in range(4, 30)))


# --- which line it is


@pytest.mark.parametrize("place", [0, 1, 40, 99])
@pytest.mark.parametrize("wrong", [b"", b"{}", b'{"action":"x"}', b"\xff", body(0, tenant_id="b")])
def test_the_line_at_fault_is_named(place: int, wrong: bytes) -> None:
    """Among many sound lines, the one that isn't is told by its number."""
    lines = bodies(100)
    lines[place] = wrong
    with pytest.raises(BodyFault) as caught:
        BodyChecker(TENANT).check(lines)
    assert caught.value.number == place


def test_a_repetition_is_found_within_and_across_chunks() -> None:
    """The second of two events with one id is at fault."""
    lines = bodies(20)
    checker = BodyChecker(TENANT)
    with pytest.raises(BodyFault) as caught:
        checker.check([*lines[:9], lines[3]])
    assert caught.value.number == 9
    checker = BodyChecker(TENANT)
    checker.check(lines[:9])
    with pytest.raises(BodyFault) as caught:
        checker.check([lines[10], lines[3]])
    assert caught.value.number == 1


def test_memory_for_ids_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many ids only the latest are remembered: at least as many as promised."""
    monkeypatch.setattr(evidence_bodies, "_MAX_REMEMBERED", 10)
    lines = bodies(60)
    checker = BodyChecker(TENANT)
    for start in range(0, 50, 5):
        checker.check(lines[start : start + 5])
        assert len(checker._young) + len(checker._old) < 25
    with pytest.raises(BodyFault):
        checker.check([lines[40]])
    checker.check([lines[0]])
