"""When an event occurred, who acted, and which id it has."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from muniment.errors import InvalidEvent
from muniment.event import Actor, Event
from muniment.event_id import make_event_id, milliseconds_of, time_of

_NOON = datetime(2026, 3, 4, 12, 0, 0, 123_456, tzinfo=UTC)
_Maker = Callable[[Any], object]


def _refused(make: _Maker, value: object) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        make(value)
    return caught.value


# --- times


class _NoOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> None:
        return None

    def dst(self, _moment: datetime | None) -> None:
        return None

    def tzname(self, _moment: datetime | None) -> None:
        return None


class _DateLibrary(datetime):
    """Stands for the datetimes of date libraries."""


@pytest.mark.parametrize("field", ["occurred_at", "recorded_at"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (datetime(2026, 3, 4, 12), "has no time zone"),  # noqa: DTZ001 - it is refused
        (datetime(2026, 3, 4, 12, tzinfo=_NoOffset()), "has no time zone"),
        ("2026-03-04T12:00:00Z", "is str, not a datetime"),
        (1_772_000_000, "is int, not a datetime"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "out of the range"),
    ],
)
def test_a_bad_time_is_refused(field: str, value: Any, problem: str) -> None:
    """A time without a zone, out of range, or of another type is refused."""
    fields: dict[str, Any] = {field: value}
    with pytest.raises(InvalidEvent, match=problem) as caught:
        Event(action="x", **fields)
    assert caught.value.field == field


def test_a_time_before_1970_is_refused() -> None:
    """No event_id carries a time before 1970."""
    error = _refused(lambda moment: Event(action="x", occurred_at=moment), _NOON.replace(year=1969))
    assert error.field == "occurred_at"


@pytest.mark.parametrize("kind", [datetime, _DateLibrary])
def test_times_are_kept_in_utc(kind: type[datetime]) -> None:
    """A time of any zone, of any subclass of datetime, becomes the same moment as plain UTC."""
    moment = kind(2026, 3, 4, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    event = Event(action="x", occurred_at=moment, recorded_at=moment)
    for kept in (event.occurred_at, event.recorded_at):
        assert type(kept) is datetime
        assert kept.isoformat() == "2026-03-04T12:00:00+00:00"


def test_the_first_moment_of_1970_is_a_time_like_any_other() -> None:
    """An event of 1970-01-01T00:00Z keeps its time."""
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    assert Event(action="x", occurred_at=moment).occurred_at == moment


# --- who acts, and for whom


@pytest.mark.parametrize(
    ("actor", "user_id", "agent_id"),
    [
        (Actor.user("u1"), "u1", None),
        (Actor.agent("a1"), None, "a1"),
        (Actor.service("s1"), None, None),
        (Actor.system(), None, None),
        (Actor.agent("a1", on_behalf_of=Actor.user("u1")), "u1", "a1"),
        (Actor.user("u1", on_behalf_of=Actor.user("u2")), "u1", None),
        (
            Actor.service(
                "s1",
                on_behalf_of=Actor.agent(
                    "a1", on_behalf_of=Actor.agent("a2", on_behalf_of=Actor.user("u1"))
                ),
            ),
            "u1",
            "a1",
        ),
    ],
)
def test_user_and_agent_are_found_along_the_chain(
    actor: Actor, user_id: str | None, agent_id: str | None
) -> None:
    """`user_id` and `agent_id` are the first person and the first agent of the chain."""
    event = Event(action="x", actor=actor)
    assert (event.user_id, event.agent_id) == (user_id, agent_id)


@pytest.mark.parametrize(
    ("make", "type_"),
    [(Actor.user, "user"), (Actor.agent, "agent"), (Actor.service, "service")],
)
def test_each_kind_of_actor_has_its_constructor(make: Callable[..., Actor], type_: Any) -> None:
    """`Actor.user` and its like are the long form, with the type filled in."""
    short = make("x1", name="X", on_behalf_of=Actor.user("u1"))
    assert short == Actor(type=type_, id="x1", name="X", on_behalf_of=Actor.user("u1"))


# --- identity


def test_an_event_has_its_identity_from_the_start() -> None:
    """Two events of the same moment have ids of their own, which carry that moment."""
    one, other = (Event(action="x", occurred_at=_NOON) for _ in range(2))
    assert one.event_id != other.event_id
    assert time_of(one.event_id) == _NOON.replace(microsecond=123_000)


def test_the_time_comes_from_a_given_id() -> None:
    """An event with an id and no time occurred when its id says."""
    event_id = make_event_id(_NOON, b"12345678")
    event = Event(action="x", event_id=event_id)
    assert event.event_id == event_id
    assert event.occurred_at == _NOON.replace(microsecond=123_000)


def test_an_id_and_a_time_that_agree_are_kept() -> None:
    """An id that carries the time to the millisecond goes with the full time."""
    event_id = make_event_id(_NOON, b"12345678")
    event = Event(action="x", event_id=event_id, occurred_at=_NOON)
    assert (event.event_id, event.occurred_at) == (event_id, _NOON)


@pytest.mark.parametrize(
    "value",
    [
        "outside-17",
        str(uuid.UUID(int=0xABCD_4000_8000, version=4)),
        make_event_id(_NOON, b"12345678").upper(),
        make_event_id(_NOON, b"12345678").replace("-", ""),
        make_event_id(_NOON, b"12345678") + "\n",
        "019cb8f0-0000-7000-c000-000000000000",  # of another variant
        "ffffffff-ffff-7000-8000-000000000000",  # of the year 10889, which no datetime holds
        None,
        0,
        b"",
    ],
)
def test_what_is_no_event_id_is_refused(value: Any) -> None:
    """An event_id is a lower-case UUIDv7; the remedy for others is an idempotency_key."""
    error = _refused(lambda event_id: Event(action="x", event_id=event_id), value)
    assert error.field == "event_id"
    assert "idempotency_key" in error.problem


@pytest.mark.parametrize("off", [timedelta(milliseconds=1), timedelta(days=-1)])
def test_an_id_of_another_time_is_refused(off: timedelta) -> None:
    """Order of ids is order of time, so an id must carry the time of its event."""
    event_id = make_event_id(_NOON, b"12345678")
    error = _refused(
        lambda moment: Event(action="x", event_id=event_id, occurred_at=moment), _NOON + off
    )
    assert error.field == "event_id"
    assert "another time" in error.problem


def _keyed(key: str = "k1", tenant_id: str = "acme", moment: datetime = _NOON) -> str:
    event = Event(action="x", tenant_id=tenant_id, idempotency_key=key, occurred_at=moment)
    return event.event_id


def test_the_same_key_gives_the_same_id() -> None:
    """One key, tenant and moment name one event, in whatever zone the moment is given."""
    elsewhere = _NOON.astimezone(timezone(timedelta(hours=9)))
    assert _keyed() == _keyed() == _keyed(moment=elsewhere)
    assert milliseconds_of(_keyed()) == 1_772_625_600_123


@pytest.mark.parametrize(
    "other",
    [
        {"key": "k2"},
        {"tenant_id": "globex"},
        {"moment": _NOON + timedelta(microseconds=1)},
        {"tenant_id": "acmek", "key": "1"},
    ],
)
def test_another_key_tenant_or_time_gives_another_id(other: dict[str, Any]) -> None:
    """Ids made from keys differ as soon as one of the things they are made from does."""
    assert _keyed(**other) != _keyed()


def test_a_key_without_a_time_is_marked() -> None:
    """A key alone names the event; its time, filled in here, is none of the source's."""
    assert Event(action="x", idempotency_key="k1").stamped == ("occurred_at",)
    assert Event(action="x", idempotency_key="k1", occurred_at=_NOON).stamped == ()
    assert Event(action="x").stamped == ()
