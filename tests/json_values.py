"""JSON values that are plain or as odd as can be, and bodies made by other people's code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import rfc8785
from hypothesis import strategies as st

from muniment.canonical import MAX_SAFE_INTEGER
from muniment.event import Actor, Change, Context, Event, Outcome, Target

NOON = datetime(2026, 3, 4, 12, 0, 0, 120_000, tzinfo=UTC)
EVENT_ID = "019cb8b8-1e78-7000-8000-000000000001"
# Characters that escape, sort or encode in a way of their own.
_odd = st.sampled_from('\x00\x08\t\n\x1f "/\\\x7f\x80é\u2028\ud7ff\ue000\uffff\U00010000😀')
odd_text = st.text(st.characters(codec="utf-8") | _odd, max_size=8)
_plain_key = st.text(st.characters(max_codepoint=127), max_size=8)
_integers = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
_edges = st.builds(
    lambda digits, exponent: float(f"{digits}e{exponent}"),
    st.integers(-(10**17), 10**17),
    st.integers(-24, 24),
)
floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([-0.0, 1e-7, 1e-6, 9.99e-6, 1e-5, 1e15, 1e16, 1e17, 1e20, 1e21, 5e-324]),
    _edges,
)
_plain_scalars = st.none() | st.booleans() | _integers | odd_text | st.floats(-1e16, 1e16)
hostile_scalars = st.none() | st.booleans() | _integers | odd_text | floats


def _json(keys: st.SearchStrategy[str], scalars: st.SearchStrategy[Any]) -> Any:
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(keys, values, max_size=5)


plain = _json(_plain_key, _plain_scalars)
hostile = _json(odd_text, hostile_scalars)


def event_of(details: dict[str, Any], *changes: Change) -> Event:
    """An event with something in most of its fields."""
    return Event(
        action="role_assign",
        tenant_id="acme",
        event_id=EVENT_ID,
        occurred_at=NOON,
        recorded_at=NOON,
        actor=Actor.agent("a7", name="Ops\nbot", on_behalf_of=Actor.user("u1", name="Ann 😀")),
        targets=[Target("user", "u2")],  # type: ignore[arg-type] # a list is taken too
        changes=changes,
        context=Context(ip="::1"),
        outcome=Outcome.SUCCESS,
        details=details,
    )


def independently(details: Any, *changes: tuple[Any, Any]) -> bytes:
    """The body of `event_of`, by the rfc8785 package, from the fields spelled out."""
    fields: dict[str, Any] = {
        "action": "role_assign",
        "tenant_id": "acme",
        "event_id": EVENT_ID,
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
