"""How large a body may be, and an event that comes back from its body."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.canonical import MAX_BODY_BYTES, MAX_DETAILS_BYTES, canonical_json, decode, encode
from muniment.errors import InvalidEvent
from muniment.event import Change, Context, Event
from tests.json_values import (
    EVENT_ID,
    event_of,
    hostile,
    hostile_scalars,
    independently,
    odd_text,
    plain,
)

# --- sizes


def _details_of(size: int, character: str = "x") -> dict[str, Any]:
    """Details whose canonical JSON takes so many bytes."""
    room = size - len(b'{"a":""}')
    return {"a": character * (room // len(character.encode()))}


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_details_may_take_as_many_bytes_as_the_limit_says(character: str) -> None:
    """Details are measured in bytes of their JSON; what fits exactly, fits."""
    details = _details_of(MAX_DETAILS_BYTES, character)
    assert decode(encode(event_of(details))).details == details


@pytest.mark.parametrize(("limit", "over"), [(MAX_DETAILS_BYTES, 1), (1000, 1), (1000, 10**6)])
def test_details_over_the_limit_are_refused(limit: int, over: int) -> None:
    """A byte too many is refused, and the error says how many there are."""
    with pytest.raises(InvalidEvent) as caught:
        encode(event_of(_details_of(limit + over)), max_details_bytes=limit)
    assert caught.value.field == "details"
    assert f"takes {limit + over} bytes" in caught.value.problem


def test_many_values_fit_if_their_bytes_do() -> None:
    """The limit is one of bytes: as many values as they can hold are encoded."""
    details = {"a": [0.0] * (MAX_DETAILS_BYTES // 2 - 4)}
    assert encode(event_of(details)) == independently(details)
    assert MAX_DETAILS_BYTES - len(canonical_json(details)) < 2


def test_a_body_over_its_limit_is_refused() -> None:
    """Changes have no limit of their own, but the body has."""
    half = "x" * (MAX_BODY_BYTES // 2)
    fits = Change(field="f", old=half, new="x")
    assert len(encode(event_of({}, fits, fits))) > MAX_BODY_BYTES
    with pytest.raises(InvalidEvent, match=r"^event: takes \d+ bytes") as caught:
        encode(event_of({}, fits, fits, fits))
    assert str(MAX_BODY_BYTES + MAX_DETAILS_BYTES) in caught.value.problem


# --- and back


@given(hostile | plain, hostile_scalars | hostile)
def test_an_event_comes_back_from_its_body(details: dict[str, Any], value: Any) -> None:
    """Decoding a body gives an equal event, whose body is the same bytes."""
    event = event_of(details, Change(field="f", old=value, new=value))
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
    body = encode(event_of({"a": "line\nline\r\u2028"}))
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
        (b'{"action":"x","details":{"a":' + b"[" * 900 + b"1.0" + b"]" * 900 + b"}}", "details"),
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


@pytest.mark.parametrize("levels", [65, 500, 5_000])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("field", ["details", "changes[0].old", "changes[0].new"])
def test_a_body_that_is_nested_too_deep_is_told_so(
    levels: int, brackets: tuple[bytes, bytes], field: str
) -> None:
    """Over 64 levels, however many there are: by the field, until even the parser gives up."""
    opening, closing = brackets
    deep = opening * (levels - 1) + b"[]" + closing * (levels - 1)
    part = field.rpartition(".")[2].encode()
    inner = b'"changes":[{"field":"f","%b":%b}]' % (part, deep)
    if field == "details":
        inner = b'"details":{"a":%b}' % deep
    with pytest.raises(InvalidEvent, match="is nested over 64 levels") as caught:
        decode(b'{"action":"x",%b}' % inner)
    assert caught.value.field == (field if levels < 1_000 else "event")


def test_a_body_has_as_many_levels_as_it_may() -> None:
    """64 levels come back, with a float that takes the careful way through them."""
    value: Any = 2.0
    for _ in range(63):
        value = [value]
    assert decode(encode(event_of({"a": value}))).details == {"a": value}


@given(st.binary(max_size=40) | st.text(st.characters(exclude_categories=()), max_size=20))
def test_decoding_anything_raises_nothing_else(body: bytes | str) -> None:
    """No input to `decode` raises anything but `InvalidEvent`."""
    with pytest.raises(InvalidEvent):
        decode(body)


@given(
    st.dictionaries(
        st.sampled_from(Event.__struct_fields__),
        st.one_of(
            hostile_scalars,
            st.lists(hostile_scalars, max_size=2),
            st.sampled_from(["2026-03-04T12:00:00Z", EVENT_ID, "success", "9999-12-31T23:59:59Z"]),
            st.fixed_dictionaries({"type": st.sampled_from(["user", ""]), "id": odd_text}),
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
