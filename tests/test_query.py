from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import AuditAction, Category, standard_catalogue
from muniment.errors import InvalidQuery
from muniment.event import Event, Outcome
from muniment.event_id import make_event_id
from muniment.query import (
    MAX_ALTERNATIVES,
    Clause,
    EventFilter,
    cursor_after,
    make_filter,
    parse_time,
)

_NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
_EVENT_ID = make_event_id(_NOW, b"12345678")
_category_of = standard_catalogue().category_of


def _filter(**given_: Any) -> EventFilter:
    return make_filter(now=_NOW, given=given_)


# --- times


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5Z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        (" 2026-01-31T12:00+02:00 ", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (
            datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=-1))),
            datetime(2026, 1, 31, 13, tzinfo=UTC),
        ),
        ("90s", _NOW - timedelta(seconds=90)),
        ("30m", _NOW - timedelta(minutes=30)),
        ("24h", _NOW - timedelta(hours=24)),
        (" 7 d ", _NOW - timedelta(days=7)),
        ("2w", _NOW - timedelta(weeks=2)),
        ("0s", _NOW),
    ],
)
def test_a_time_is_iso_8601_or_an_age(value: Any, moment: datetime) -> None:
    """Times become aware UTC: text without an offset is UTC, ages count back from now."""
    parsed = parse_time("since", value, now=_NOW)
    assert parsed == moment
    assert parsed.tzinfo is UTC


class _DateLibrary(datetime):
    """Stands for the datetimes of date libraries."""


class _NoOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> None:
        return None

    def dst(self, _moment: datetime | None) -> None:
        return None

    def tzname(self, _moment: datetime | None) -> None:
        return None


def test_a_time_of_a_date_library_becomes_a_plain_one() -> None:
    """A subclass of datetime can stand in a cursor, as any other time can."""
    wanted = _filter(since=_DateLibrary(2026, 3, 4, tzinfo=UTC))
    assert type(wanted.since) is datetime
    assert cursor_after(_EVENT_ID, "acme", "newest", wanted)


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "24",
        "-24h",
        "24 hours",
        "1y",
        "1234567h",
        "999999w",
        "2026-13-01",
        "2026-01-31T25:00",
        "0001-01-01T00:00+01:00",
        "9999-12-31T23:59-01:00",
        "2026-01-31\x00",
        "\ud800",
        "24h" * 1000,
        datetime(2026, 1, 31),  # noqa: DTZ001 - it is refused
        datetime(2026, 1, 31, tzinfo=_NoOffset()),
        date(2026, 1, 31),
        1_772_000_000,
        1.5,
        b"24h",
        ["24h"],
    ],
)
def test_a_bad_time_names_the_argument(name: str, value: Any) -> None:
    """What is no time, has no zone or is out of range raises `InvalidQuery`, and that alone."""
    with pytest.raises(InvalidQuery) as caught:
        make_filter(now=_NOW, given={name: value})
    assert caught.value.field == name
    assert len(str(caught.value)) < 200


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_no_text_breaks_the_parsing_of_times(text: str) -> None:
    """Any text is a time or an `InvalidQuery`."""
    try:
        assert parse_time("since", text, now=_NOW).tzinfo is UTC
    except InvalidQuery as error:
        assert error.field == "since"  # noqa: PT017 - the other texts are times


# --- filters


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"actions": "x"}, "actions"),
        ({"order": "newest"}, "order"),
        ({"action": ""}, "action"),
        ({"action": []}, "action"),
        ({"action": 5}, "action"),
        ({"action": ["login", 5]}, "action"),
        ({"action": b"login"}, "action"),
        ({"action": "ro*le"}, "action"),
        ({"action": "*_role"}, "action"),
        ({"action": "role**"}, "action"),
        ({"action": ["x"] * (MAX_ALTERNATIVES + 1)}, "action"),
        ({"action": "a\x00b"}, "action"),
        ({"action": "\ud800"}, "action"),
        ({"action": "x" * 4097}, "action"),
        ({"outcome": "won"}, "outcome"),
        ({"outcome": []}, "outcome"),
        ({"outcome": ["success", []]}, "outcome"),
        ({"outcome": 5}, "outcome"),
        ({"category": "billing"}, "category"),
        ({"category": ["user"]}, "category"),
        ({"actor_type": "robot"}, "actor_type"),
        ({"actor_type": ["user"]}, "actor_type"),
        ({"actor_type": {"user"}}, "actor_type"),
        ({"text": ""}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"text": "é" * 2049}, "text"),
        *(
            ({name: value}, name)
            for name in (
                "tenant_id",
                "actor_id",
                "user_id",
                "agent_id",
                "target_type",
                "target_id",
                "request_id",
                "trace_id",
                "run_id",
            )
            for value in ("", 5, ["u1"], UUID(int=1), "a\x00b", "\udfff", "x" * 4097)
        ),
    ],
)
def test_a_bad_filter_names_the_argument(given_: dict[str, Any], field: str) -> None:
    """Whatever is wrong with a filter, the error names the argument it is wrong with."""
    with pytest.raises(InvalidQuery) as caught:
        _filter(**given_)
    assert caught.value.field == field


def test_a_filter_takes_texts_for_choices() -> None:
    """Texts, members of enums, one and several all make the same filter."""
    assert _filter(action=AuditAction.LOGIN, outcome="denied", category="role", text=None) == (
        EventFilter(action=("login",), outcome=(Outcome.DENIED,), category=Category.ROLE)
    )
    assert _filter(action=iter(["login", "role_*"]), outcome=[Outcome.DENIED]) == (
        EventFilter(action=("login", "role_*"), outcome=(Outcome.DENIED,))
    )
    assert _filter() == EventFilter()


def test_an_action_with_a_star_is_a_prefix() -> None:
    """`role_*` asks for every action that begins so; its terms must be looked up first."""
    (clause,) = _filter(action=["role_*", "login"]).clauses()
    assert clause == Clause("action", exact=("action:login",), prefixes=("action:role_",))
    assert clause.is_open


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        ("role_*", "role_assign", True),
        ("role_*", "role_", True),
        ("role_*", "role", False),
        ("role_*", "arole_x", False),
        ("role_*", "ROLE_assign", False),
        ("role_assign", "role_assign", True),
        ("role_assign", "role_assigned", False),
        ("*", "anything", True),
        ("group:*", "group:create", True),
        ("10%*", "10%_x", True),
        ("a_c*", "abc", False),
    ],
)
def test_a_prefix_is_taken_literally(pattern: str, action: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """Only a star at the end means more than itself."""
    event = Event(action=action)
    assert _filter(action=pattern).matches(event, "{}", _category_of) is matches


# --- what matches
