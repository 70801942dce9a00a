from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from muniment.canonical import decode
from muniment.errors import InvalidEvent
from muniment.event import Actor, Change, Context, Event, Target
from muniment.event_id import event_id_of_key, make_event_id
from muniment.processors import Processor, enrich, redact
from muniment.query import index_terms
from muniment.sealing import MAX_AHEAD, Draft, Sealer, given, utc_now
from muniment.stores.base import Sealed

_NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
_LATER = _NOW + timedelta(minutes=5)


def _entropy(size: int) -> bytes:
    return b"\x07" * size


def _event(**fields: Any) -> Event:
    return Event(action="x", occurred_at=_NOW, **fields)


def _both_ways(sealer: Sealer, **fields: Any) -> list[Callable[[], Sealed]]:
    """To seal a call's arguments, and an Event made of them."""
    return [
        lambda: sealer.seal_call("x", {"occurred_at": _NOW, **fields}),
        lambda: sealer.seal(_event(**fields)),
    ]


def _sealer(now: datetime = _NOW, **options: Any) -> Sealer:
    return Sealer(clock=lambda: now, entropy=_entropy, **options)


# --- what is given


def test_what_is_none_is_not_given() -> None:
    """None stands for a field that was left out."""
    assert given({"tenant_id": "acme", "reason": None, "details": {}}) == {
        "tenant_id": "acme",
        "details": {},
    }


@pytest.mark.parametrize("name", ["tenant", "salt", "recorded_at", "stamped", "schema_version"])
def test_a_field_that_callers_may_not_give_is_refused(name: str) -> None:
    """A misspelt field, and one that is the log's own, is named together with those there are."""
    with pytest.raises(InvalidEvent, match="an event has no such field") as caught:
        given({"tenant_id": "acme", name: "x"})
    assert caught.value.field == name
    assert "idempotency_key" in caught.value.problem


def test_the_systems_clock_is_aware() -> None:
    """The default clock gives UTC."""
    assert utc_now().tzinfo is UTC


# --- sealing


def test_a_sealed_event_is_whole() -> None:
    """Body, leaf hash, terms and id belong together, and the body has our time and salt."""
    sealed = _sealer().seal_call("login", {"tenant_id": "acme", "actor": Actor.user("u1")})
    event = decode(sealed.body)
    assert (sealed.tenant_id, sealed.event_id) == ("acme", event.event_id)
    assert (event.tenant_id, event.action, event.actor) == ("acme", "login", Actor.user("u1"))
    assert event.occurred_at == event.recorded_at == _NOW
    assert event.salt == "07" * 16
    assert event.event_id == make_event_id(_NOW, _entropy(8))
    assert sealed.leaf_hash == hashlib.sha256(b"\x00" + sealed.body).digest()
    assert sealed.terms == index_terms(event)
    assert (sealed.may_repeat, sealed.key) == (False, None)


def test_sealing_an_event_leaves_it_as_it_is() -> None:
    """The event that was given gets neither time nor salt, and can be sealed again."""
    event = _event(details={"a": 1})
    sealed = _sealer().seal(event)
    assert (event.recorded_at, event.salt, event.stamped) == (None, None, ())
    assert sealed.event_id == event.event_id
    assert sealed.may_repeat


def test_two_seals_of_one_event_differ_in_salt() -> None:
    """By default salt and id are random: a leaf hash can't be guessed from what is in the body."""
    event = Event(action="x")
    one, other = (decode(Sealer().seal(event).body) for _ in range(2))
    assert one.salt != other.salt
    assert len(bytes.fromhex(one.salt or "")) == 16


@pytest.mark.parametrize("value", ["login", None, {"action": "x"}, Actor.user("u1")])
def test_only_an_event_is_sealed(value: Any) -> None:
    """What is no Event is refused."""
    with pytest.raises(InvalidEvent) as caught:
        _sealer().seal(value)
    assert caught.value.field == "event"


def test_a_sealed_event_is_a_snapshot() -> None:
    """What the caller changes after sealing, however deep, changes nothing."""
    details = {"a": [1, {"b": 2}]}
    targets = [Target("user", "u1")]
    old = ["before"]
    changes = [Change(field="f", old=old)]
    fields: dict[str, Any] = {"details": details, "targets": targets, "changes": changes}
    sealed = _sealer().seal_call("x", fields)
    body = bytes(sealed.body)
    details["a"][1]["b"] = 3  # type: ignore[index] # the caller knows what is in it
    details["c"] = []
    old.append("after")
    targets.clear()
    changes.clear()
    assert sealed.body == body
    event = decode(sealed.body)
    assert event.details == {"a": [1, {"b": 2}]}
    assert event.targets == (Target("user", "u1"),)
    assert event.changes == (Change(field="f", old=["before"]),)


def test_details_over_the_sealers_limit_are_refused() -> None:
    """The limit that a log was opened with holds."""
    sealer = _sealer(max_details_bytes=100)
    with pytest.raises(InvalidEvent, match="over the limit of 100") as caught:
        sealer.seal_call("x", {"details": {"a": "x" * 100}})
    assert caught.value.field == "details"


# --- idempotency


def test_a_key_without_a_time_is_resolved_by_the_store() -> None:
    """Another try with the same key comes later, with another id: the key says that it is one."""
    first = _sealer(_NOW).seal_call("x", {"tenant_id": "acme", "idempotency_key": "k1"})
    again = _sealer(_LATER).seal_call("x", {"tenant_id": "acme", "idempotency_key": "k1"})
    assert first.key == again.key == "k1"
    assert first.may_repeat
    assert again.may_repeat
    assert first.event_id == event_id_of_key(_NOW, "acme", "k1")
    assert decode(first.body).stamped == ("occurred_at",)


def test_a_key_in_an_event_without_a_time_is_resolved_alike() -> None:
    """An Event made from a key alone is known by its key too, whenever it is made."""
    sealed = _sealer(utc_now()).seal(Event(action="x", idempotency_key="k1"))
    assert (sealed.key, sealed.may_repeat) == ("k1", True)


def test_a_key_with_a_time_needs_no_resolving() -> None:
    """Key and time make the id: the same one in every try, so the id alone tells."""
    fields = {"tenant_id": "acme", "idempotency_key": "k1", "occurred_at": _NOW}
    first = _sealer(_NOW).seal_call("x", fields)
    again = _sealer(_LATER).seal_call("x", fields)
    assert first.event_id == again.event_id
    assert first.key is None
    assert first.may_repeat


def test_a_given_id_may_repeat() -> None:
    """An event whose id was given may have been stored before."""
    sealed = _sealer().seal_call("x", {"event_id": make_event_id(_NOW, b"12345678")})
    assert (sealed.may_repeat, sealed.key) == (True, None)


# --- time


def test_a_time_far_ahead_is_refused() -> None:
    """As far ahead of our clock as the limit an event may be; late it may be for ever."""
    sealer = _sealer()
    for moment in (_NOW + MAX_AHEAD, _NOW - timedelta(days=20_000)):
        assert sealer.seal_call("x", {"occurred_at": moment})
    ahead = _NOW + MAX_AHEAD + timedelta(microseconds=1)
    with pytest.raises(InvalidEvent, match="24 hours ahead") as caught:
        sealer.seal_call("x", {"occurred_at": ahead})
    assert caught.value.field == "occurred_at"


def test_an_id_far_ahead_is_refused() -> None:
    """An id brings its time along: that is no way around the limit."""
    ahead = make_event_id(_NOW + timedelta(days=365), b"12345678")
    with pytest.raises(InvalidEvent, match="24 hours ahead"):
        _sealer().seal(Event(action="x", event_id=ahead))


# --- tenant


def test_a_bound_sealer_fills_in_its_tenant() -> None:
    """Without a tenant, a call is the bound tenant's; with that tenant, it is the same."""
    sealer = _sealer(tenant_id="acme")
    for fields in ({}, {"tenant_id": "acme"}):
        assert sealer.seal_call("x", fields).tenant_id == "acme"


def test_a_bound_sealer_makes_keys_of_its_tenant() -> None:
    """The id of a key is that of the bound tenant."""
    sealed = _sealer(tenant_id="acme").seal_call("x", {"idempotency_key": "k1"})
    assert sealed.event_id == event_id_of_key(_NOW, "acme", "k1")


@pytest.mark.parametrize("tenant_id", ["globex", "system"])
def test_a_bound_sealer_refuses_other_tenants(tenant_id: str) -> None:
    """Neither a call nor an Event of another tenant gets through, not even of `system`."""
    sealer = _sealer(tenant_id="acme")
    for seal in _both_ways(sealer, tenant_id=tenant_id):
        with pytest.raises(InvalidEvent, match="bound to 'acme'") as caught:
            seal()
        assert caught.value.field == "tenant_id"


# --- processors


def test_processors_run_in_order_over_calls_and_events() -> None:
    """Each processor sees what the one before it made; what they filled in is stamped."""
    first: Processor = enrich(service="first")
    second: Processor = enrich(service="second", run_id="r1")
    sealer = _sealer(processors=[first, second, redact("token")])
    fields = {"details": {"token": "s3cret"}}
    for seal in _both_ways(sealer, **fields):
        sealed = seal()
        event = decode(sealed.body)
        assert event.context == Context(service="first", run_id="r1")
        assert event.stamped == ("context.run_id", "context.service")
        assert b"s3cret" not in sealed.body
    assert fields == {"details": {"token": "s3cret"}}


def test_stamps_add_to_those_there_are() -> None:
    """A time that we filled in stays marked when processors fill in more."""
    sealed = _sealer(processors=[enrich(service="s")]).seal_call("x", {"idempotency_key": "k1"})
    assert decode(sealed.body).stamped == ("occurred_at", "context.service")
    assert sealed.key == "k1"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant_id", "globex"),
        ("event_id", make_event_id(_NOW, b"otherone")),
        ("idempotency_key", "k2"),
        ("occurred_at", _NOW + timedelta(microseconds=1)),
    ],
)
def test_a_processor_may_not_change_the_identity(field: str, value: Any) -> None:
    """An event keeps tenant, id, time and key, or it would be another one."""
    sealer = _sealer(processors=[lambda event: msgspec.structs.replace(event, **{field: value})])
    for seal in _both_ways(sealer):
        with pytest.raises(InvalidEvent, match="changed by a processor") as caught:
            seal()
        assert caught.value.field == field


@pytest.mark.parametrize("value", [None, "event", {"action": "x"}])
@pytest.mark.parametrize("behind", [(), (enrich(service="s"),)], ids=["last", "first"])
def test_a_processor_must_return_an_event(value: Any, behind: tuple[Processor, ...]) -> None:
    """What is no Event is refused, wherever in the row the processor stands."""
    sealer = _sealer(processors=[lambda _event: value, *behind])
    for seal in _both_ways(sealer):
        with pytest.raises(InvalidEvent, match="not an Event") as caught:
            seal()
        assert caught.value.field == "processors"


def _fails(event: Event) -> Event:
    raise KeyError(event.action)


def _refuses(event: Event) -> Event:
    raise InvalidEvent("reason", f"{event.action} needs one")


def test_a_processor_that_fails_makes_an_invalid_event() -> None:
    """Its error is the cause of one that `on_error` decides about, like any bad input's."""
    for seal in _both_ways(_sealer(processors=[_fails])):
        with pytest.raises(InvalidEvent, match="raised KeyError") as caught:
            seal()
        assert caught.value.field == "processors"
        assert isinstance(caught.value.__cause__, KeyError)


def test_a_processor_may_refuse_an_event() -> None:
    """An `InvalidEvent` of its own passes as it is."""
    with pytest.raises(InvalidEvent, match=r"^reason: x needs one$"):
        _sealer(processors=[_refuses]).seal_call("x", {})


def test_an_event_that_processors_return_unchanged_stays_as_it_is() -> None:
    """An event that processors pass on as it came gets no time and salt of the log either."""
    event = _event()
    _sealer(processors=[lambda same: same]).seal(event)
    assert (event.recorded_at, event.salt) == (None, None)


def test_a_draft_is_sealed_once() -> None:
    """Two threads that come for the same emitted event get one and the same, with one id."""
    draft = _sealer().draft_call("login", {"tenant_id": "acme", "details": {"a": 1}})
    assert isinstance(draft, Draft)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: draft.seal(), range(100)))
    assert all(sealed is found[0] for sealed in found)
