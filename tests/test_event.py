from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import AuditAction
from muniment.checks import check_id, check_text
from muniment.errors import InvalidEvent
from muniment.event import (
    MAX_CHANGES,
    MAX_DELEGATION,
    MAX_TARGETS,
    Actor,
    Change,
    Context,
    Event,
    Outcome,
    Target,
)

_Maker = Callable[[Any], object]
_CONTEXT_IDS = (
    "ip",
    "request_id",
    "session_id",
    "trace_id",
    "span_id",
    "run_id",
    "parent_run_id",
    "approval_id",
    "service",
)


def _context(name: str) -> _Maker:
    return lambda value: Context(**{name: value})


_IDS: dict[str, _Maker] = {
    "action": lambda value: Event(action=value),
    "tenant_id": lambda value: Event(action="x", tenant_id=value),
    "idempotency_key": lambda value: Event(action="x", idempotency_key=value),
    "organization_id": lambda value: Event(action="x", organization_id=value),
    "actor.id": Actor.agent,
    "target.type": lambda value: Target(value, "t1"),
    "target.id": lambda value: Target("user", value),
    **{f"context.{name}": _context(name) for name in _CONTEXT_IDS},
}
_TEXTS: dict[str, _Maker] = {
    "actor.name": lambda value: Actor.user("u1", name=value),
    "target.name": lambda value: Target("user", "u1", value),
    "change.field": lambda value: Change(field=value),
    "context.user_agent": _context("user_agent"),
    "reason": lambda value: Event(action="x", reason=value),
    "salt": lambda value: Event(action="x", salt=value),
}


def _refused(make: _Maker, value: object) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        make(value)
    return caught.value


# --- what a field may hold


@pytest.mark.parametrize("field", _IDS)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is empty"),
        ("x" * 513, "is over 512 bytes"),
        ("é" * 257, "is over 512 bytes"),
        ("a\x00b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\x1fb", "U+001F"),
        ("a\x7fb", "U+007F"),
        ("a\x85b", "U+0085"),
        ("a\ud800b", "lone surrogate U+D800"),
        (5, "is int, not a string"),
        (b"u1", "is bytes, not a string"),
        (uuid.UUID(int=1), "is UUID, not a string"),
    ],
)
def test_an_id_that_no_index_could_hold_is_refused(field: str, value: Any, problem: str) -> None:
    """A bad id is refused by the field it stands in, which the error names with the problem."""
    error = _refused(_IDS[field], value)
    assert error.field == field
    assert problem in error.problem


@pytest.mark.parametrize("field", _IDS)
def test_an_id_may_take_512_bytes(field: str) -> None:
    """Any letters of any script fit into an id, up to the limit."""
    assert _IDS[field]("é" * 256)
    assert _IDS[field]("角色 🗝 x" + "y" * 490)


@pytest.mark.parametrize("field", _TEXTS)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x" * 4097, "is over 4096 bytes"),
        ("é" * 2049, "is over 4096 bytes"),
        ("a\udfffb", "lone surrogate U+DFFF"),
        (5, "is int, not a string"),
        (b"text", "is bytes, not a string"),
    ],
)
def test_bad_text_is_refused(field: str, value: Any, problem: str) -> None:
    """Text that is too long, or no text, is refused by the field it stands in."""
    error = _refused(_TEXTS[field], value)
    assert error.field == field
    assert problem in error.problem


@pytest.mark.parametrize("field", _TEXTS)
def test_text_may_hold_any_character(field: str) -> None:
    """Text up to the limit is kept, control characters included."""
    assert _TEXTS[field]("line\nNUL\x00 é" + "x" * 4084)


@given(st.text(st.characters(exclude_categories=()), max_size=8) | st.text(max_size=600))
def test_check_id_accepts_what_its_rule_says(value: str) -> None:
    """Exactly texts of 1 to 512 bytes of UTF-8 without a control character pass as ids."""
    categories = {unicodedata.category(character) for character in value}
    good = not categories & {"Cc", "Cs"} and 1 <= len(value.encode()) <= 512
    try:
        check_id("action", value)
    except InvalidEvent:
        assert not good
    else:
        assert good


@given(st.text(st.characters(exclude_categories=()), max_size=8), st.integers(0, 4100))
def test_check_text_accepts_what_its_rule_says(value: str, padding: int) -> None:
    """Exactly texts of up to 4,096 bytes of UTF-8 pass."""
    value += "x" * padding
    good = not any(unicodedata.category(c) == "Cs" for c in value) and len(value.encode()) <= 4096
    try:
        check_text("reason", value)
    except InvalidEvent:
        assert not good
    else:
        assert good


# --- the other fields


class _Ending(StrEnum):
    GOOD = "success"


class _Pair(NamedTuple):
    first: Target
    second: Target


@pytest.mark.parametrize("value", ["succeeded", "", "SUCCESS", None, 1, [], {}, b"success"])
def test_an_unknown_outcome_is_refused(value: Any) -> None:
    """There are four outcomes; what is none of them is refused, whatever its type."""
    error = _refused(lambda outcome: Event(action="x", outcome=outcome), value)
    assert error.field == "outcome"
    assert "success, failure, denied, unknown" in error.problem


@pytest.mark.parametrize("value", ["denied", Outcome.DENIED])
def test_an_outcome_may_be_given_as_text(value: Any) -> None:
    """The text of an outcome becomes the outcome."""
    assert Event(action="x", outcome=value).outcome is Outcome.DENIED


def test_an_outcome_may_be_given_as_another_enum() -> None:
    """A member of an application's own enum becomes the outcome that it equals."""
    outcome: Any = _Ending.GOOD
    assert Event(action="x", outcome=outcome).outcome is Outcome.SUCCESS


@pytest.mark.parametrize("value", ["robot", "", None, 1, [], Target("user", "u1")])
def test_an_unknown_type_of_actor_is_refused(value: Any) -> None:
    """An actor is a user, an agent, a service or the system."""
    error = _refused(lambda type_: Actor(type=type_, id="a1"), value)
    assert error.field == "actor.type"


@pytest.mark.parametrize("value", ["u1", None, {"type": "user", "id": "u1"}])
def test_an_actor_of_another_type_is_refused(value: Any) -> None:
    """The actor of an event is an Actor, nothing like it."""
    assert _refused(lambda actor: Event(action="x", actor=actor), value).field == "actor"


@pytest.mark.parametrize("value", ["request", None, {"ip": "::1"}])
def test_a_context_of_another_type_is_refused(value: Any) -> None:
    """The context of an event is a Context, nothing like it."""
    assert _refused(lambda context: Event(action="x", context=context), value).field == "context"


@pytest.mark.parametrize("value", [None, [], "text", 5, [("a", 1)]])
def test_details_of_another_type_are_refused(value: Any) -> None:
    """Details are a dict."""
    assert _refused(lambda details: Event(action="x", details=details), value).field == "details"


@pytest.mark.parametrize("field", ["targets", "changes", "stamped"])
@pytest.mark.parametrize("value", [None, "ab", {"a"}, iter(()), {}])
def test_what_is_no_list_is_refused(field: str, value: Any) -> None:
    """Targets, changes and stamped fields come as a list or a tuple."""
    assert _refused(lambda several: Event(action="x", **{field: several}), value).field == field


def test_a_named_tuple_is_no_list() -> None:
    """What looks like one thing is not taken for several."""
    pair: Any = _Pair(Target("user", "u1"), Target("user", "u2"))
    assert _refused(lambda targets: Event(action="x", targets=targets), pair).field == "targets"


@pytest.mark.parametrize("several", [list, tuple])
def test_a_bad_target_is_named_by_its_place(several: Callable[[Any], Any]) -> None:
    """The error says which of the targets is none."""
    targets = several([Target("user", "u1"), Target("user", "u2"), "u3"])
    error = _refused(lambda value: Event(action="x", targets=value), targets)
    assert error.field == "targets[2]"
    assert error.problem == "is str, not a Target"


@pytest.mark.parametrize("several", [list, tuple])
def test_a_bad_change_is_named_by_its_place(several: Callable[[Any], Any]) -> None:
    """The error says which of the changes is none."""
    changes = several([Change(field="name"), {"field": "name"}])
    error = _refused(lambda value: Event(action="x", changes=value), changes)
    assert error.field == "changes[1]"


@pytest.mark.parametrize("value", [5, None, "\ud800"])
def test_a_bad_stamped_field_is_named_by_its_place(value: Any) -> None:
    """The names of stamped fields are text."""
    error = _refused(lambda stamped: Event(action="x", stamped=stamped), ["reason", value])
    assert error.field == "stamped[1]"


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [("targets", Target("user", "u1"), MAX_TARGETS), ("changes", Change(field="n"), MAX_CHANGES)],
)
def test_too_many_parts_are_refused(field: str, value: object, most: int) -> None:
    """As many targets and changes as the limit fit, and not one more."""

    def make(count: int) -> Event:
        fields: dict[str, Any] = {field: [value] * count}
        return Event(action="x", **fields)

    assert len(getattr(make(most), field)) == most
    error = _refused(make, most + 1)
    assert error.field == field
    assert str(most) in error.problem


def _delegation(length: int) -> Actor:
    actor = Actor.user("u1")
    for n in range(length - 1):
        actor = Actor.agent(f"a{n}", on_behalf_of=actor)
    return actor


def test_a_delegation_chain_is_bounded() -> None:
    """A chain has as many actors as the limit says, and not one more."""
    assert len(list(_delegation(MAX_DELEGATION).chain())) == MAX_DELEGATION
    assert _refused(_delegation, MAX_DELEGATION + 1).field == "actor.on_behalf_of"


@pytest.mark.parametrize("value", ["u1", {"type": "user", "id": "u1"}, 5])
def test_an_actor_acts_for_an_actor(value: Any) -> None:
    """What an actor acts for is an Actor, nothing like it."""
    error = _refused(lambda actor: Actor.agent("a1", on_behalf_of=actor), value)
    assert error.field == "actor.on_behalf_of"


@pytest.mark.parametrize("value", [0, -1, 10_000, 2**60, True, "1", None, 1.0])
def test_a_bad_schema_version_is_refused(value: Any) -> None:
    """A version of the schema is a small number from 1 on: what is stored can be read again."""
    error = _refused(lambda version: Event(action="x", schema_version=version), value)
    assert error.field == "schema_version"


def test_an_event_changed_by_replace_is_checked_again() -> None:
    """`msgspec.structs.replace` lets nothing in that the constructor would refuse."""
    event = Event(action="x")
    assert _refused(lambda value: msgspec.structs.replace(event, reason=value), 5).field == "reason"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Event(action="x"), "action"),
        (Actor.user("u1"), "id"),
        (Target("user", "u1"), "id"),
        (Change(field="name"), "old"),
        (Context(), "ip"),
    ],
)
def test_values_are_frozen(value: object, field: str) -> None:
    """No field of an event or of its parts can be set."""
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, field, "other")


def test_an_event_fills_in_what_is_not_given() -> None:
    """An action alone makes an event: of the system, of unknown outcome, in the system's tenant."""
    event = Event(action="schedule_tick")
    assert event.tenant_id == "system"
    assert event.actor == Actor.system() == Actor(type="system", id="system")
    assert event.outcome is Outcome.UNKNOWN
    assert (event.targets, event.changes, event.details) == ((), (), {})
    assert event.schema_version == 1
    assert (event.recorded_at, event.salt) == (None, None)


def test_two_events_share_no_details() -> None:
    """The default details of one event are not those of another."""
    one, other = Event(action="x"), Event(action="x")
    assert one.details is not other.details


def test_a_standard_action_becomes_plain_text() -> None:
    """An event holds an action as a str, not as a member of an enum."""
    action = Event(action=AuditAction.ROLE_ASSIGN).action
    assert type(action) is str
    assert action == "role_assign"
