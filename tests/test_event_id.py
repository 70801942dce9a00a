from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muniment.event_id import (
    EPOCH,
    event_id_of_key,
    is_event_id,
    lowest_id_at,
    make_event_id,
    microseconds,
    milliseconds_of,
    moment_of,
    time_of,
)

_LAST = microseconds(datetime.max.replace(tzinfo=UTC))
_micros = st.integers(0, _LAST)
_entropy = st.binary(min_size=8, max_size=32)


@given(_micros)
def test_microseconds_name_a_moment(micros: int) -> None:
    """Every microsecond from 1970 to the year 9999 becomes a moment and is found in it again."""
    assert microseconds(moment_of(micros)) == micros


def test_microseconds_do_not_depend_on_the_zone() -> None:
    """The same moment in another zone has the same number."""
    moment = datetime(1969, 12, 31, 20, tzinfo=timezone(-timedelta(hours=4)))
    assert microseconds(moment) == 0


@given(_micros, _entropy)
@example(_LAST, b"\xff" * 8)
@example(0, bytes(8))
def test_an_id_is_a_uuid_of_version_7(micros: int, entropy: bytes) -> None:
    """The standard library reads every id as a UUIDv7 of RFC 9562, of the right millisecond."""
    event_id = make_event_id(moment_of(micros), entropy)
    read = uuid.UUID(event_id)
    assert str(read) == event_id
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert read.int >> 80 == micros // 1000 == milliseconds_of(event_id)
    assert time_of(event_id) == moment_of(micros // 1000 * 1000)
    assert is_event_id(event_id)


@given(_micros, st.integers(1, 2000), _entropy, _entropy)
def test_order_of_ids_is_order_of_time(
    micros: int, later: int, entropy: bytes, other: bytes
) -> None:
    """Of two ids, as text and as bytes, that of the later microsecond is greater."""
    micros = min(micros, _LAST - later)
    first = make_event_id(moment_of(micros), entropy)
    second = make_event_id(moment_of(micros + later), other)
    assert first < second
    assert uuid.UUID(first).bytes < uuid.UUID(second).bytes


@given(_micros.filter(bool))
def test_lowest_id_splits_at_its_moment(micros: int) -> None:
    """Every id of the moment is above it, every id of the microsecond before is below it."""
    low = lowest_id_at(moment_of(micros))
    assert low < uuid.UUID(make_event_id(moment_of(micros), bytes(8))).bytes
    assert uuid.UUID(make_event_id(moment_of(micros - 1), b"\xff" * 8)).bytes < low


@pytest.mark.parametrize(
    "moment", [EPOCH, EPOCH - timedelta(days=1), datetime(1, 1, 1, tzinfo=UTC)]
)
def test_lowest_id_before_1970_is_below_every_id(moment: datetime) -> None:
    """A search since the year 1 begins with the first id there can be."""
    low = lowest_id_at(moment)
    assert low < uuid.UUID(make_event_id(EPOCH, bytes(8))).bytes


def test_a_time_before_1970_has_no_id() -> None:
    """The 48 bits of an id hold no negative time."""
    with pytest.raises(ValueError, match="from 1970 on"):
        make_event_id(EPOCH - timedelta(microseconds=1), bytes(8))


def test_entropy_fills_what_time_leaves_free() -> None:
    """62 bits of an id are chance: ids of one moment and other chance are others."""
    one = make_event_id(EPOCH, bytes(7) + b"\x01")
    assert one == "00000000-0000-7000-8000-000000000001"
    assert make_event_id(EPOCH, b"\xff" * 8) == "00000000-0000-7000-bfff-ffffffffffff"


@given(_micros, st.text(max_size=20), st.text(max_size=20))
def test_an_id_of_a_key_is_the_same_each_time(micros: int, tenant_id: str, key: str) -> None:
    """A key gives one id, of its time, which another tenant's same key does not share."""
    moment = moment_of(micros)
    event_id = event_id_of_key(moment, tenant_id, key)
    assert event_id == event_id_of_key(moment, tenant_id, key)
    assert milliseconds_of(event_id) == micros // 1000
    assert event_id != event_id_of_key(moment, tenant_id + "x", key)


def test_ids_of_keys_stay_what_they_are() -> None:
    """The id of a key is a promise to whoever repeats the key after an upgrade."""
    moment = datetime(2026, 3, 4, 12, tzinfo=UTC)
    assert event_id_of_key(moment, "acme", "k1") == "019cb8b8-1e00-7000-b542-d3facb5849fb"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000000-0000-4000-8000-000000000000",  # version 4
        "00000000-0000-7000-0000-000000000000",  # no variant of RFC 9562
        "00000000-0000-7000-c000-000000000000",
        "0000000G-0000-7000-8000-000000000000",
        "0000000A-0000-7000-8000-000000000000",
        "00000000000070008000000000000000",
        "{00000000-0000-7000-8000-000000000000}",
        "00000000-0000-7000-8000-000000000000\n",
        "\u06600000000-0000-7000-8000-000000000000",  # a digit, but not an ASCII one
        "e677d21f-dc00-7000-8000-000000000000",  # the first millisecond of the year 10000
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
def test_other_texts_are_no_event_ids(text: str) -> None:
    """Only the canonical lower-case form of a UUIDv7 is one, and only of a time there is."""
    assert not is_event_id(text)
