"""Cursors resume their own search, and are refused by any other."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.checks import check_id
from muniment.errors import InvalidQuery
from muniment.event import Event
from muniment.event_id import make_event_id
from muniment.query import EventFilter, Order, cursor_after, filter_digest, make_filter, resume

_NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
_EVENT_ID = make_event_id(_NOW, b"12345678")


def _filter(**given_: Any) -> EventFilter:
    return make_filter(now=_NOW, given=given_)


_WANTED = _filter(action="role_*", since="24h")


def _cursor(*, order: Order = "newest", wanted: EventFilter = _WANTED) -> str:
    event = Event(action="role_assign", tenant_id="acme", event_id=_EVENT_ID)
    return cursor_after(event.event_id, event.tenant_id, order, wanted)


def test_a_cursor_resumes_its_search() -> None:
    """A cursor gives back the place, and the times of the first page, though now is later."""
    later = make_filter(now=_NOW + timedelta(minutes=5), given={"action": "role_*", "since": "24h"})
    place, wanted = resume(_cursor(), "newest", later)
    assert (place.event_id, place.tenant_id) == (_EVENT_ID, "acme")
    assert wanted == _WANTED != later


def test_a_cursor_is_safe_in_a_url() -> None:
    """Cursors are made of characters that need no escaping in a URL."""
    event = Event(action="x", tenant_id="租户?&=/é😀" * 9)
    text = cursor_after(event.event_id, event.tenant_id, "oldest", _WANTED)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert text.isascii()
    assert resume(text, "oldest", _WANTED)[0].tenant_id == event.tenant_id


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("oldest", _WANTED),
        ("newest", _filter(since="24h")),
        ("newest", _filter(action="role_a*", since="24h")),
        ("newest", _filter(action="role_*", since="24h", tenant_id="acme")),
        ("newest", _filter(action="role_*", since="24h", text="x")),
    ],
)
def test_a_cursor_is_refused_by_another_search(order: Order, wanted: EventFilter) -> None:
    """A cursor goes on with its own filter and order only."""
    with pytest.raises(InvalidQuery, match="belongs to another search"):
        resume(_cursor(), order, wanted)


_VALID: list[Any] = [1, "newest", _EVENT_ID, "acme", filter_digest(_WANTED), None, None]


def _as_text(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode()


def _changed(place: int, value: Any) -> str:
    return _as_text([*_VALID[:place], value, *_VALID[place + 1 :]])


def test_the_form_that_these_tests_tamper_with_is_that_of_a_cursor() -> None:
    """The tests below start from a cursor that is accepted."""
    assert resume(_as_text(_VALID), "newest", _WANTED)[0].event_id == _EVENT_ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "not a cursor",
        "é",
        "\ud800",
        None,
        5,
        b"bytes",
        _as_text({}),
        _as_text([]),
        _as_text(_VALID[:-1]),
        _as_text(b"[" * 100_000),
        _as_text(json.dumps(_VALID)[:-1].encode() + b"," + b"[" * 100_000),
        _changed(0, 2),
        _changed(0, "1"),
        _changed(1, "sideways"),
        _changed(2, "outside-17"),
        _changed(2, _EVENT_ID.upper()),
        _changed(3, "a\x00b"),
        _changed(3, ""),
        _changed(3, "x" * 513),
        _changed(3, "\ud800"),
        _changed(3, None),
        _changed(5, "2026-03-04T12:00:00"),
        _changed(6, "2026-03-04T12:00:00"),
        _changed(5, "24h"),
        _changed(6, 1_772_000_000),
        _cursor()[:-3],
    ],
)
def test_what_is_no_cursor_is_refused(text: Any) -> None:
    """Text that no search gave, and what is no text, is refused by the argument's name."""
    with pytest.raises(InvalidQuery, match=r"^cursor: isn't one") as caught:
        resume(text, "newest", _WANTED)
    assert caught.value.field == "cursor"


def _use(text: str) -> None:
    """Resume from the text; what is accepted must be sound enough to search with."""
    try:
        place, wanted = resume(text, "newest", _WANTED)
    except InvalidQuery:
        return
    assert UUID(place.event_id).version == 7
    check_id("tenant_id", place.tenant_id)
    for moment in (wanted.since, wanted.until):
        assert moment is None or moment.utcoffset() is not None


@given(
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=60),
        st.binary(max_size=60).map(_as_text),
        st.lists(st.none() | st.integers() | st.text(max_size=9), max_size=9).map(_as_text),
    )
)
def test_random_text_never_passes_for_a_cursor(text: str) -> None:
    """No text raises anything but `InvalidQuery`."""
    _use(text)


@given(
    st.integers(0, 6),
    st.one_of(
        st.none(),
        st.integers(),
        st.text(max_size=9),
        st.datetimes().map(lambda moment: moment.isoformat()),
        st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat()),
        st.sampled_from(["oldest", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]),
        st.uuids(version=4).map(str),
    ),
)
def test_a_tampered_part_of_a_cursor_does_no_harm(place: int, value: Any) -> None:
    """A cursor with any part replaced is refused, or is one that can be searched with."""
    _use(_changed(place, value))


@given(st.data())
def test_a_tampered_character_of_a_cursor_does_no_harm(data: st.DataObject) -> None:
    """A cursor with any character replaced is refused, or is one that can be searched with."""
    text = _cursor()
    n = data.draw(st.integers(0, len(text) - 1))
    _use(text[:n] + data.draw(st.characters(exclude_categories=())) + text[n + 1 :])


def test_a_filter_is_one_search_whatever_its_times() -> None:
    """Relative times differ from page to page; a filter's digest leaves them out."""
    assert filter_digest(_WANTED) == filter_digest(msgspec.structs.replace(_WANTED, since=None))
