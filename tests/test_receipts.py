from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muniment.errors import Conflict, NotDurable
from muniment.event import Actor, Change, Context, Event, Target
from muniment.event_id import make_event_id
from muniment.intake import Placement
from muniment.processors import enrich
from muniment.receipts import Receipt, differing_fields, receipt_for, receipts_for
from muniment.sealing import Sealer
from muniment.stores.base import Sealed, StoredEvent

_NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
_LATER = _NOW + timedelta(minutes=5)
_EVENT_ID = make_event_id(_NOW, b"12345678")

_FIELDS: dict[str, Any] = {
    "tenant_id": "acme",
    "event_id": _EVENT_ID,
    "occurred_at": _NOW,
    "actor": Actor.user("u1"),
    "targets": (Target("user", "u2"),),
    "changes": (Change(field="role", old="a", new="b"),),
    "context": Context(ip="::1"),
    "outcome": "success",
    "reason": "why",
    "details": {"amount": 1, "note": None},
}


def _sealed(sealer: Sealer | None = None, **fields: Any) -> Sealed:
    sealer = sealer or Sealer(clock=lambda: _NOW)
    return sealer.seal(Event(**{"action": "x", **_FIELDS, **fields}))


def _stored(sealed: Sealed) -> StoredEvent:
    return StoredEvent(sealed.tenant_id, sealed.event_id, sealed.leaf_hash, sealed.body.decode())


# --- the same event, or another


def test_the_logs_own_fields_make_no_difference() -> None:
    """The same event, sealed again later: another time of recording and another salt."""
    ours, theirs = _sealed(Sealer(clock=lambda: _LATER)), _sealed()
    assert ours.body != theirs.body
    assert differing_fields(ours, _stored(theirs)) == ()


@pytest.mark.parametrize("schema_version", [1, 2])
def test_the_version_of_the_schema_makes_no_difference(schema_version: int) -> None:
    """An event that was stored before an upgrade is still the same event."""
    theirs = _stored(_sealed(schema_version=schema_version))
    assert differing_fields(_sealed(), theirs) == ()


@pytest.mark.parametrize("other_way_round", [False, True])
def test_what_processors_stamped_makes_no_difference(*, other_way_round: bool) -> None:
    """Another host fills in other values, or none: the source still said the same."""
    here = _sealed(Sealer(clock=lambda: _NOW, processors=[enrich(service="a", run_id="r1")]))
    there = _sealed(Sealer(clock=lambda: _NOW, processors=[enrich(service="b")]))
    if other_way_round:
        here, there = there, here
    assert differing_fields(here, _stored(there)) == ()
    assert differing_fields(here, _stored(_sealed())) == ()
    assert differing_fields(_sealed(), _stored(there)) == ()


def test_a_time_that_was_filled_in_makes_no_difference() -> None:
    """Two tries with one key come at two times, and have two ids: they are one event."""
    fields = {"tenant_id": "acme", "idempotency_key": "k1"}
    first = Sealer(clock=lambda: _NOW).seal_call("x", fields)
    again = Sealer(clock=lambda: _LATER).seal_call("x", fields)
    assert first.event_id != again.event_id
    assert differing_fields(again, _stored(first)) == ()
    other = Sealer(clock=lambda: _LATER).seal_call("x", {**fields, "reason": "why"})
    assert differing_fields(other, _stored(first)) == ("reason",)


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({"action": "y"}, ("action",)),
        ({"occurred_at": _NOW + timedelta(microseconds=1)}, ("occurred_at",)),
        ({"actor": Actor.user("u1", name="Ann")}, ("actor",)),
        ({"actor": Actor.agent("u1")}, ("actor",)),
        ({"targets": ()}, ("targets",)),
        ({"targets": (Target("user", "u2"), Target("user", "u2"))}, ("targets",)),
        ({"changes": (Change(field="role", old="a", new="c"),)}, ("changes",)),
        ({"context": Context()}, ("context.ip",)),
        ({"context": Context(ip="::1", run_id="r1")}, ("context.run_id",)),
        ({"outcome": "denied"}, ("outcome",)),
        ({"reason": None}, ("reason",)),
        ({"idempotency_key": "k1"}, ("idempotency_key",)),
        ({"organization_id": "o1"}, ("organization_id",)),
        ({"details": {"amount": 2, "note": None}}, ("details.amount",)),
        ({"details": {"amount": 1, "note": None, "more": []}}, ("details.more",)),
        ({"details": {"amount": 1}}, ("details.note",)),
        ({"details": {"amount": True, "note": None}}, ("details.amount",)),
        ({"details": {"amount": "1", "note": None}}, ("details.amount",)),
        ({"reason": "no", "action": "y"}, ("action", "reason")),
    ],
)
def test_a_field_of_the_source_makes_the_difference(
    changed: dict[str, Any], differing: tuple[str, ...]
) -> None:
    """Each field that the source gave otherwise is named, whichever of the two came first."""
    one, other = _sealed(), _sealed(**changed)
    assert differing_fields(other, _stored(one)) == differing
    assert differing_fields(one, _stored(other)) == differing


def test_numbers_of_one_value_are_the_same() -> None:
    """1.0 and 1 are one number in canonical JSON."""
    theirs = _stored(_sealed(details={"amount": 1.0, "note": None}))
    assert differing_fields(_sealed(), theirs) == ()


def test_an_erased_event_is_taken_at_its_word() -> None:
    """What was erased can't be compared: recording it again is no conflict."""
    erased = StoredEvent("acme", _EVENT_ID, b"\x01" * 32, None)
    assert differing_fields(_sealed(), erased) == ()


# --- receipts


@pytest.mark.parametrize("place", ["store", "spool", "transaction"])
def test_a_receipt_says_where_the_event_is(place: str) -> None:
    """The receipt of a new event has its id, its leaf hash and the place where it is durable."""
    sealed = _sealed()
    receipt = receipt_for(sealed, Placement(place))
    assert (receipt.tenant_id, receipt.event_id) == ("acme", _EVENT_ID)
    assert receipt.leaf_hash == sealed.leaf_hash
    assert receipt.durable_in == place
    assert not receipt.already


def test_a_repeated_event_gets_the_first_ones_receipt() -> None:
    """The receipt of a repeated event has the leaf hash of the one that was kept."""
    first, again = _sealed(), _sealed()
    receipt = receipt_for(again, Placement("store", _stored(first)))
    assert receipt.leaf_hash == first.leaf_hash != again.leaf_hash
    assert receipt.already


def test_another_event_of_the_same_id_is_a_conflict() -> None:
    """The conflict names the event that was kept and the fields that differ."""
    first, other = _sealed(), _sealed(reason="no", action="y")
    with pytest.raises(Conflict) as caught:
        receipt_for(other, Placement("store", _stored(first)))
    assert caught.value.event_id == _EVENT_ID
    assert caught.value.fields == ("action", "reason")


def test_a_failed_placement_raises_what_went_wrong() -> None:
    """An event that ended nowhere has no receipt."""
    error = NotDurable()
    with pytest.raises(NotDurable) as caught:
        receipt_for(_sealed(), Placement("lost", error=error))
    assert caught.value is error


def test_a_lost_event_has_a_receipt_that_says_so() -> None:
    """Under `on_error="log"` a receipt says "lost", with the event's id if it ever had one."""
    error = NotDurable()
    receipts, failures = receipts_for([_sealed(), None], [Placement("lost", error=error)])
    assert (receipts[0].event_id, receipts[0].durable_in) == (_EVENT_ID, "lost")
    assert receipts[1] == Receipt(tenant_id="", event_id="", leaf_hash=b"", durable_in="lost")
    assert failures == [error]
