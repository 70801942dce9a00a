from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import AuditAction, Category, standard_catalogue
from muniment.canonical import encode
from muniment.checks import check_id
from muniment.errors import InvalidQuery
from muniment.event import Actor, ActorType, Context, Event, Outcome, Target
from muniment.event_id import make_event_id
from muniment.query import (
    MAX_ALTERNATIVES,
    Clause,
    EventFilter,
    Order,
    cursor_after,
    filter_digest,
    index_terms,
    json_inner,
    make_filter,
    parse_time,
    resume,
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
    assert cursor_after(Event(action="x"), "newest", wanted)


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

_ids = st.sampled_from(["u1", "a1", "é"])
_types: st.SearchStrategy[ActorType] = st.sampled_from(["user", "agent", "service", "system"])
_actions = st.sampled_from(["role_assign", "role_revoke", "login", "agent_start", "invoice.void"])
_moments = st.integers(0, 3).map(lambda n: _NOW + timedelta(seconds=n))
_maybe_id = st.none() | _ids

_actors: st.SearchStrategy[Actor] = st.recursive(
    st.builds(Actor, type=_types, id=_ids),
    lambda inner: st.builds(Actor, type=_types, id=_ids, on_behalf_of=inner),
    max_leaves=3,
)
_events = st.builds(
    Event,
    action=_actions,
    tenant_id=st.sampled_from(["acme", "globex"]),
    occurred_at=_moments,
    actor=_actors,
    outcome=st.sampled_from(Outcome),
    targets=st.lists(st.builds(Target, st.sampled_from(["user", "role"]), _ids), max_size=3).map(
        tuple
    ),
    context=st.builds(
        Context, request_id=_maybe_id, session_id=_maybe_id, trace_id=_maybe_id, run_id=_maybe_id
    ),
    details=st.fixed_dictionaries({"note": st.sampled_from(['Say "hi"\n', "ÉCOLE", "plain"])}),
)
_filters = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": st.sampled_from(["acme", "globex"]),
        "action": st.lists(
            _actions | st.sampled_from(["role_*", "*", "x*"]), min_size=1, max_size=2
        ),
        "category": st.sampled_from(Category),
        "activity": st.sampled_from(["people", "background"]),
        "actor_type": _types,
        "actor_id": _ids,
        "user_id": _ids,
        "agent_id": _ids,
        "target_type": st.sampled_from(["user", "role"]),
        "target_id": _ids,
        "outcome": st.lists(st.sampled_from(["success", "denied"]), min_size=1),
        "request_id": _ids,
        "session_id": _ids,
        "trace_id": _ids,
        "run_id": _ids,
        "since": _moments,
        "until": _moments,
        "text": st.sampled_from(['SAY "HI"\n', "école", "École", '"note":', "plain"]),
    },
)
# One or two conditions let many events pass; all of them together hardly any.
_few_conditions = st.dictionaries(
    st.sampled_from(sorted(EventFilter.__struct_fields__)), st.none(), max_size=2
).flatmap(lambda chosen: _filters.map(lambda f: {k: v for k, v in f.items() if k in chosen}))


def _lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _chain(body: dict[str, Any]) -> list[dict[str, Any]]:
    chain = [body["actor"]]
    while "on_behalf_of" in chain[-1]:
        chain.append(chain[-1]["on_behalf_of"])
    return chain


def _first(kind: str, body: dict[str, Any]) -> str | None:
    return next((actor["id"] for actor in _chain(body) if actor["type"] == kind), None)


def _moment(body: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(body["occurred_at"])


def _inside_a_string(text: str, body: dict[str, Any]) -> bool:
    whole = json.dumps(body, ensure_ascii=False)
    return _lower(json.dumps(text, ensure_ascii=False)[1:-1]) in _lower(whole)


# Each condition by itself, by the documentation of filters, from the body's JSON alone.
_CONDITIONS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "tenant_id": lambda wanted, body: body["tenant_id"] == wanted,
    "action": lambda wanted, body: any(fnmatchcase(body["action"], w) for w in wanted),
    "category": lambda wanted, body: _category_of(body["action"]) == wanted,
    "activity": lambda wanted, body: (
        (_category_of(body["action"]) == "background") == (wanted == "background")
    ),
    "actor_type": lambda wanted, body: body["actor"]["type"] == wanted,
    "actor_id": lambda wanted, body: body["actor"]["id"] == wanted,
    "user_id": lambda wanted, body: _first("user", body) == wanted,
    "agent_id": lambda wanted, body: _first("agent", body) == wanted,
    "outcome": lambda wanted, body: body["outcome"] in wanted,
    "request_id": lambda wanted, body: body["context"].get("request_id") == wanted,
    "session_id": lambda wanted, body: body["context"].get("session_id") == wanted,
    "trace_id": lambda wanted, body: body["context"].get("trace_id") == wanted,
    "run_id": lambda wanted, body: body["context"].get("run_id") == wanted,
    "since": lambda wanted, body: _moment(body) >= wanted,
    "until": lambda wanted, body: _moment(body) < wanted,
    "text": _inside_a_string,
}


def _expected(wanted: dict[str, Any], body: dict[str, Any]) -> bool:
    target = {k.removeprefix("target_"): v for k, v in wanted.items() if k.startswith("target_")}
    return all(_CONDITIONS[k](v, body) for k, v in wanted.items() if k in _CONDITIONS) and (
        not target or any(target.items() <= found.items() for found in body.get("targets", []))
    )


@given(_filters | _few_conditions, _events)
def test_a_filter_matches_what_its_conditions_say(wanted: dict[str, Any], event: Event) -> None:
    """An event matches exactly if each condition holds for its body, taken one by one."""
    body = encode(event).decode()
    found = _filter(**wanted).matches(event, body, _category_of)
    assert found is _expected(wanted, json.loads(body))


@given(_filters | _few_conditions, _events)
def test_the_index_nominates_every_event_that_matches(wanted: dict[str, Any], event: Event) -> None:
    """An event that matches has, for each clause, a term that satisfies it."""
    matching = _filter(**wanted)
    terms = index_terms(event)
    if matching.matches(event, encode(event).decode(), _category_of):
        for clause in matching.clauses():
            assert (
                clause.admits(event.action, _category_of(event.action))
                or any(f"\x1f{term}\x1f" in terms for term in clause.exact)
                or any(f"\x1f{prefix}" in terms for prefix in clause.prefixes)
            )


@given(_events)
def test_index_terms_are_those_of_the_event(event: Event) -> None:
    """Each value that can be searched has its term, once, between separators, the action first."""
    terms = index_terms(event)
    assert terms[0] == terms[-1] == "\x1f"
    found = terms[1:-1].split("\x1f")
    context = event.context
    pairs = [
        ("action", event.action),
        ("outcome", event.outcome.value),
        ("actor", event.actor.id),
        ("actor_type", event.actor.type),
        ("user", event.user_id),
        ("agent", event.agent_id),
        ("request", context.request_id),
        ("session", context.session_id),
        ("trace", context.trace_id),
        ("run", context.run_id),
        *(("target", target.id) for target in event.targets),
        *(("target_type", target.type) for target in event.targets),
    ]
    assert found[0] == f"action:{event.action}"
    assert len(found) == len(set(found))
    assert set(found) == {f"{kind}:{value}" for kind, value in pairs if value is not None}


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_is_found_as_it_stands_in_a_body(text: str) -> None:
    """Quotes, escapes and control characters are searched for in the form that a body has them."""
    event = Event(action="x", details={"note": f"before {text} after", "slow": 1.0})
    body = encode(event).decode()
    assert json_inner(text) in body
    assert EventFilter(text=text).matches(event, body, _category_of)


# --- cursors

_WANTED = _filter(action="role_*", since="24h")


def _cursor(*, order: Order = "newest", wanted: EventFilter = _WANTED) -> str:
    event = Event(action="role_assign", tenant_id="acme", event_id=_EVENT_ID)
    return cursor_after(event, order, wanted)


def test_a_cursor_resumes_its_search() -> None:
    """A cursor gives back the place, and the times of the first page, though now is later."""
    later = make_filter(now=_NOW + timedelta(minutes=5), given={"action": "role_*", "since": "24h"})
    place, wanted = resume(_cursor(), "newest", later)
    assert (place.event_id, place.tenant_id) == (_EVENT_ID, "acme")
    assert wanted == _WANTED != later


def test_a_cursor_is_safe_in_a_url() -> None:
    """Cursors are made of characters that need no escaping in a URL."""
    event = Event(action="x", tenant_id="租户?&=/é😀" * 9)
    text = cursor_after(event, "oldest", _WANTED)
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
