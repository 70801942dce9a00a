from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.canonical import encode
from muniment.errors import InvalidEvent
from muniment.event import Change, Context, Event, Target
from muniment.processors import REDACTED, enrich, redact, stamped_fields

# --- enrich


def test_enrich_fills_in_what_is_missing() -> None:
    """Fields of the context that the source left empty are filled in, the others kept."""
    event = Event(action="x", context=Context(service="own", ip="::1"))
    enriched = enrich(service="billing", run_id="r1")(event)
    assert enriched.context == Context(service="own", ip="::1", run_id="r1")
    assert event.context == Context(service="own", ip="::1")


def test_enrich_leaves_a_full_event_alone() -> None:
    """An event that lacks nothing is returned itself."""
    event = Event(action="x", context=Context(service="own"))
    assert enrich(service="billing")(event) is event


def test_enrich_checks_its_values_when_it_is_made() -> None:
    """A bad value shows when the log is set up, not with the first event."""
    with pytest.raises(InvalidEvent, match=r"^context\.service"):
        enrich(service="a\x00b")


def test_enrich_knows_no_other_fields() -> None:
    """A misspelt field shows when the log is set up."""
    with pytest.raises(TypeError, match="servise"):
        enrich(servise="billing")


# --- redact


class _Credentials(msgspec.Struct):
    user: str
    password: str


@pytest.mark.parametrize(
    ("details", "becomes"),
    [
        ({"password": "s3cret", "a": 1}, {"password": REDACTED, "a": 1}),
        ({"PassWord": "s3cret"}, {"PassWord": REDACTED}),
        ({"a": {"password": {"old": "s3cret"}}}, {"a": {"password": REDACTED}}),
        ({"a": [1, ({"password": "s3cret"},)]}, {"a": [1, [{"password": REDACTED}]]}),
        ({"password": None}, {"password": REDACTED}),
        ({"a": MappingProxyType({"password": "s3cret"})}, {"a": {"password": REDACTED}}),
        ({"a": _Credentials("u1", "s3cret")}, {"a": {"user": "u1", "password": REDACTED}}),
        ({"a": [_Credentials("u1", "s3cret")]}, {"a": [{"user": "u1", "password": REDACTED}]}),
        ({"passwords": "kept", "note": "password"}, {"passwords": "kept", "note": "password"}),
    ],
)
def test_redact_hides_values_anywhere_in_details(
    details: dict[str, Any], becomes: dict[str, Any]
) -> None:
    """The values of the named keys are hidden at every depth, in every kind of container."""
    before = repr(details)
    event = redact("password", "token")(Event(action="x", details=details))
    assert event.details == becomes
    assert repr(details) == before
    assert b"s3cret" not in encode(event)


@pytest.mark.parametrize(
    ("change", "becomes"),
    [
        (
            Change(field="Password", old="s3cret", new="s3cret2"),
            Change(field="Password", old=REDACTED, new=REDACTED),
        ),
        (Change(field="password", new="s3cret"), Change(field="password", new=REDACTED)),
        (
            Change(field="login", old={"password": "s3cret", "n": 1}, new=[{"password": 1}]),
            Change(field="login", old={"password": REDACTED, "n": 1}, new=[{"password": REDACTED}]),
        ),
        (Change(field="name", old="a", new="b"), Change(field="name", old="a", new="b")),
    ],
)
def test_redact_hides_values_in_changes(change: Change, becomes: Change) -> None:
    """Changes of the named fields are hidden, and the named keys within any change; null stays."""
    other = Change(field="role", old="a", new="b")
    event = redact("password")(Event(action="x", changes=(other, change)))
    assert event.changes == (other, becomes)


def test_redact_returns_an_event_without_secrets_itself() -> None:
    """Nothing is copied where nothing is to be hidden."""
    event = Event(action="x", details={"a": [{"b": 1}]}, changes=(Change(field="name", new="x"),))
    assert redact("password")(event) is event


_trees = st.recursive(
    st.just("s3cret") | st.integers(0, 9),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "token", "TOKEN"]), inner, max_size=3),
    ),
)


def _secrets_outside_token(value: Any) -> int:
    if isinstance(value, dict):
        kept = [item for key, item in value.items() if key.lower() != "token"]
        return sum(map(_secrets_outside_token, kept))
    if isinstance(value, list | tuple):
        return sum(map(_secrets_outside_token, value))
    return int(value == "s3cret")


@given(_trees)
def test_redact_hides_what_is_named_and_nothing_else(tree: Any) -> None:
    """In any details, what stands under the key is gone and what doesn't is still there."""
    event = redact("token")(Event(action="x", details={"tree": tree}))
    assert encode(event).count(b"s3cret") == _secrets_outside_token(tree)


# --- what was stamped


@pytest.mark.parametrize(
    ("changed", "stamped"),
    [
        ({"reason": "why"}, ("reason",)),
        ({"organization_id": "o1"}, ("organization_id",)),
        ({"targets": (Target("user", "u1"),)}, ("targets",)),
        ({"changes": (Change(field="name"),)}, ("changes",)),
        ({"context": Context(ip="::1", service="s")}, ("context.service",)),
        ({"context": Context(ip="::2")}, ()),
        ({"details": {"a": 2, "host": "h", "pid": 1}}, ("details.host", "details.pid")),
        ({"details": {}}, ()),
        ({}, ()),
    ],
)
def test_stamped_fields_are_those_the_source_left_empty(
    changed: dict[str, Any], stamped: tuple[str, ...]
) -> None:
    """What a processor filled in is stamped; what it replaced or removed is not."""
    source = Event(action="x", context=Context(ip="::1"), details={"a": 1})
    processed = msgspec.structs.replace(source, **changed)
    assert stamped_fields(source, processed) == stamped


def test_an_event_that_is_not_changed_has_no_stamps() -> None:
    """The event itself, returned as it came, was not stamped."""
    event = Event(action="x")
    assert stamped_fields(event, event) == ()
