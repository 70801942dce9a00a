from __future__ import annotations

import copy
import hashlib
import math
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from muniment import Actor, AuditAction, Event
from muniment.canonical import MAX_DEPTH, MAX_DETAILS_BYTES, canonical_json, encode
from muniment.checks import MAX_ID_BYTES, MAX_TEXT_BYTES, check_id, check_text
from muniment.salvage import as_text, salvage_details, salvage_id, salvage_text
from tests.garbage import (
    Colour,
    EndlessList,
    Hostile,
    HostileDict,
    Shapeless,
    anything,
    circular,
)


@settings(max_examples=150)
@given(anything)
def test_whatever_is_given_becomes_details_that_can_be_recorded(value: Any) -> None:
    """Nothing raises, and the result is accepted by an event and by its strict encoder."""
    encode(Event(action="x", details=salvage_details(value)))


@settings(max_examples=80)
@given(anything)
def test_whatever_is_given_becomes_an_id_that_can_be_recorded_or_none(value: Any) -> None:
    """An id that comes out of salvage passes the check of ids."""
    found = salvage_id(value)
    if found is not None:
        check_id("id", found)


@settings(max_examples=80)
@given(anything)
def test_whatever_is_given_becomes_text_that_can_be_recorded_or_none(value: Any) -> None:
    """A text that comes out of salvage passes the check of texts."""
    found = salvage_text(value)
    if found is not None:
        check_text("reason", found)


@settings(max_examples=80)
@given(anything)
def test_salvaging_twice_changes_nothing_more(value: Any) -> None:
    """What was salvaged is plain JSON already."""
    once = salvage_details(value)
    assert canonical_json(salvage_details(once)) == canonical_json(once)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "nan"),
        (-math.inf, "-inf"),
        (2**53, "9007199254740992"),
        (2**53 - 1, 2**53 - 1),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        ("\ud83d", "\\ud83d"),
        ("日本語 👍", "日本語 👍"),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, None), [1, None]),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Decimal("1.50"), "1.50"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (timedelta(seconds=1.5), 1.5),
        (AuditAction.LOGIN, "login"),
        (Colour.RED, [1]),
    ],
)
def test_a_value_that_json_lacks_becomes_the_nearest_one(value: Any, expected: Any) -> None:
    """Each kind of value has one spelling, and what JSON can hold stays as it is."""
    assert salvage_details({"key": value}) == {"key": expected}


def test_an_integer_that_python_will_not_print_is_written_in_hex() -> None:
    """Python refuses to print thousands of digits; nothing of the number is lost."""
    assert salvage_details({"key": 10**5000}) == {"key": hex(10**5000)}


def test_keys_become_strings_as_json_spells_them() -> None:
    """Keys that aren't strings are spelled as `json.dumps` does, and none replaces another."""
    given: dict[Any, Any] = {None: 0, True: 1, 2: 3, "2": 4, 2.5: 5, "é": 6}
    assert salvage_details(given) == {"null": 0, "true": 1, "2": 3, "2 (2)": 4, "2.5": 5, "é": 6}


def test_a_circular_value_ends_where_it_begins_again() -> None:
    """The repeated container is named, the rest is kept."""
    assert salvage_details(circular()) == {"list": ["<circular>"]}


def test_a_shared_value_is_not_circular() -> None:
    """The same list in two places is kept in both."""
    shared = [1]
    assert salvage_details({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}], ids=["list", "dict"])
def test_nesting_stops_where_an_event_does(wrap: Any) -> None:
    """However deep it is, it can be recorded."""
    value: Any = "bottom"
    for _ in range(MAX_DEPTH + 5):
        value = wrap(value)
    assert b"<nested too deep>" in encode(Event(action="x", details=salvage_details(value)))


def test_a_list_that_never_ends_is_cut() -> None:
    """An endless iterator ends in a note."""
    assert salvage_details({"key": EndlessList()}, max_bytes=None)["key"][-1] == "<too many values>"


def test_a_value_shared_many_times_over_is_cut() -> None:
    """A few lists that contain each other twice, which would be 2^60 values, are cut."""
    value: Any = ["bottom"]
    for _ in range(60):
        value = [value, value]
    encode(Event(action="x", details=salvage_details(value)))


def test_details_that_are_too_big_become_a_note_of_their_size_and_hash() -> None:
    """The note says how many bytes of canonical JSON there were, and their SHA-256."""
    details = {"bulk": "ü" * MAX_DETAILS_BYTES}
    body = canonical_json(details)
    assert salvage_details(details) == {
        "too_big": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    }


def test_details_that_just_fit_are_kept() -> None:
    """The limit is that of an event, to the byte."""
    details = {"bulk": "x" * (MAX_DETAILS_BYTES - len('{"bulk":""}'))}
    assert salvage_details(details) == details
    encode(Event(action="x", details=details))


def test_what_is_no_mapping_stands_under_value() -> None:
    """A list given as details is not lost."""
    assert salvage_details([1, 2]) == {"value": [1, 2]}


def test_what_was_given_stays_as_it_was() -> None:
    """The result shares nothing with what was given, which is not changed."""
    given: dict[str, Any] = {"list": [{"key": {1, 2}}], "n": float("inf")}
    before = copy.deepcopy(given)
    salvage_details(given)["list"][0]["key"].append(3)
    assert given == before


def test_a_set_has_the_same_order_in_every_process() -> None:
    """Hashes of strings differ between processes, the order of a salvaged set does not."""
    code = (
        "from muniment.salvage import salvage_details\n"
        "print(salvage_details({'a': {'x', 'y', 'z', 1, '1', frozenset({'p', 'q', 'r'})}}))"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(orders) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("", None),
        ("u1", "u1"),
        ("Жанна", "Жанна"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (17, "17"),
        (AuditAction.LOGIN, "login"),
        ("a\0b\x85", "a\\x00b\\x85"),
        ("\udc80", "\\udc80"),
        (True, None),
        ({"a": 1}, None),
        ([1], None),
        ({1}, None),
    ],
)
def test_an_id_is_text_without_control_characters(given: Any, expected: str | None) -> None:
    """UUIDs and numbers become text, what can't be an id becomes None."""
    assert salvage_id(given) == expected


def test_two_long_ids_stay_two() -> None:
    """An id over 512 bytes keeps its beginning and gets a hash of all of it."""
    one, other = salvage_id("é" * 400 + "1"), salvage_id("é" * 400 + "2")
    assert one is not None
    assert other is not None
    assert one != other
    assert one.startswith("é" * 200)
    assert len(one.encode()) <= MAX_ID_BYTES


def test_an_id_of_512_bytes_is_kept() -> None:
    """The limit is that of an event's ids, to the byte."""
    whole = "é" * (MAX_ID_BYTES // 2)
    assert salvage_id(whole) == whole
    Actor.user(whole)


def test_long_text_is_cut_with_an_ellipsis() -> None:
    """Text over 4,096 bytes keeps its beginning, and no character is halved."""
    text = salvage_text("é" * MAX_TEXT_BYTES)
    assert text is not None
    assert text.endswith("é…")
    assert MAX_TEXT_BYTES - 2 <= len(text.encode()) <= MAX_TEXT_BYTES


def test_text_of_an_object_that_raises_names_its_type() -> None:
    """A broken `__str__` ends in a note of what it is."""
    assert as_text(Hostile()) == "<unprintable Hostile>"


def test_a_mapping_that_raises_does_not_take_its_neighbours_with_it() -> None:
    """Only the value that can't be read is replaced, by a note of what it is."""
    given = {"bad": HostileDict(a=1), "good": 1}
    assert salvage_details(given) == {"bad": "<unreadable HostileDict>", "good": 1}


def test_an_object_whose_very_type_can_not_be_asked_for_is_named() -> None:
    """Properties that lie in the way of `isinstance` and of a type's name end in a note too."""
    shapeless = Shapeless()
    assert salvage_details({"a": shapeless}) == {"a": "<unreadable Shapeless>"}
    assert salvage_id(shapeless) == "<unprintable Shapeless>"
