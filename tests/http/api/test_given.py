"""From bytes to an event: the quick way and the careful one come to the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muniment.canonical import decode
from muniment.errors import InvalidEvent
from muniment.event import Event
from muniment.http.api.given import _looked_at, event_of
from muniment.http.api.plain import plain_event
from muniment.http.problems import Refusal
from muniment.sealing import Sealer, utc_now
from muniment.stores.base import Sealed

_ID = "019d0000-0000-7000-8000-000000000000"
_now = utc_now()
_sealer = Sealer(clock=lambda: _now, entropy=lambda count: b"7" * count)

_texts = st.sampled_from(
    ["a", "", "x y", "a\nb", "\x7f", "ß", "\u2028", "a" * 128, "a" * 513, "system"]
) | st.text(max_size=5)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.sampled_from([0.5, 1.0, 1e-7, 1e17, -0.0, 1e300, 2.5]),
    _texts,
)
_actors = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["user", "agent", "service", "system", "robot"]), "id": _texts},
        optional={"name": _texts, "mail": _texts},
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["user", "agent"]), "id": _texts, "on_behalf_of": inner}
    ),
    max_leaves=3,
)
_details = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner)
    ),
    max_size=4,
)
_events = st.fixed_dictionaries(
    {"action": _texts},
    optional={
        "tenant_id": _texts,
        "event_id": st.sampled_from([_ID, "", "7"]),
        "idempotency_key": st.none() | _texts,
        "occurred_at": st.sampled_from(
            ["2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00", "soon", "2026-01-31T12:00:00"]
        ),
        "recorded_at": st.sampled_from([None, "2026-01-31T12:00:00Z"]),
        "actor": _actors,
        "outcome": st.sampled_from(["success", "denied", "won"]),
        "reason": st.none() | _texts,
        "targets": st.lists(
            st.fixed_dictionaries({"type": _texts, "id": _texts}, optional={"name": _texts}),
            max_size=3,
        ),
        "changes": st.lists(
            st.fixed_dictionaries({"field": _texts}, optional={"old": _scalars, "new": _scalars}),
            max_size=2,
        ),
        "context": st.dictionaries(
            st.sampled_from(["ip", "request_id", "user_agent", "colour"]), _texts, max_size=2
        ),
        "details": _details,
        "organization_id": st.none() | _texts,
        "stamped": st.sampled_from([[], ["occurred_at"]]),
        "schema_version": st.sampled_from([1, 2]),
        "salt": st.none() | _texts,
        "colour": _texts,
    },
)


@given(_events, st.booleans())
def test_the_quick_way_is_only_quicker(fields: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    """An event that is taken without a second look would pass it, and is stored the same."""
    raw = json.dumps(fields, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    quick = plain_event(raw)
    if quick is None:
        return
    careful = _looked_at(raw, None, None)
    if "event_id" not in fields and "occurred_at" not in fields:
        return  # each made its own time and id
    if fields.get("event_id", "") == "" and fields.get("idempotency_key") is None:
        return
    assert _sealed(quick) == _sealed(careful)


def _sealed(event: Event) -> Sealed | str:
    try:
        return _sealer.seal_decoded(event)
    except InvalidEvent as error:
        return str(error)


@given(_events)
def test_what_is_taken_is_what_a_body_would_be(fields: dict[str, Any]) -> None:
    """A client's event is sealed as `decode` and `seal` would have it; or it is refused."""
    raw = json.dumps({**fields, "event_id": _ID}).encode()
    try:
        sealed = _sealer.seal_decoded(event_of(raw))
    except InvalidEvent:
        return
    assert sealed == _sealer.seal(decode(raw))


@given(_events)
def test_a_bound_client_writes_for_its_tenant_only(fields: dict[str, Any]) -> None:
    """Whatever it sends, an event that is taken is its tenant's."""
    try:
        event = event_of(json.dumps(fields).encode(), "acme")
    except (InvalidEvent, Refusal):
        return
    assert event.tenant_id == "acme"
