from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.errors import InvalidQuery
from muniment.filter_language import KEYS, parse, text_of
from muniment.query import EventFilter


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", {}),
        ("  \n ", {}),
        ("action:login", {"action": ["login"]}),
        ("action:role_* action:login", {"action": ["role_*", "login"]}),
        ("outcome:denied tenant:acme", {"outcome": ["denied"], "tenant_id": "acme"}),
        ("activity:people activity:reading", {"activity": ["people", "reading"]}),
        ("actor:u1", {"actor_id": "u1"}),
        ("actor:user:u1", {"actor_id": "u1", "actor_type": "user"}),
        ("actor:arn:aws:iam", {"actor_id": "arn:aws:iam"}),
        ("since:7d until:2026-01-31T12:00Z", {"since": "7d", "until": "2026-01-31T12:00Z"}),
        ('target:"a b"', {"target_id": "a b"}),
        ("ada lovelace", {"text": "ada lovelace"}),
        ('"say \\"hi\\""', {"text": 'say "hi"'}),
        ('text:"action:login"', {"text": "action:login"}),
        ("王芳 outcome:failure", {"text": "王芳", "outcome": ["failure"]}),
        ("12:30", {"text": "12:30"}),
    ],
)
def test_the_language_reads_as_the_command_line(text: str, filters: dict[str, Any]) -> None:
    """Keys are options, what has no key is text, quotes hold values with spaces together."""
    assert parse(text) == filters


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour:red", "colour"),
        ("tenant:a tenant:b", "tenant"),
        ('action:""', "action"),
        ('"no end', "q"),
        ('tenant:"a"b', "q"),
        ("actor:user:u1 actor-type:agent", "actor-type"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(text: str, key: str) -> None:
    """The error says which key is at fault."""
    with pytest.raises(InvalidQuery) as raised:
        parse(text)
    assert raised.value.field == key


def test_there_is_a_key_for_each_filter() -> None:
    """Whatever a search can ask for can be said in the language."""
    assert set(KEYS.values()) == set(EventFilter.__struct_fields__)


_values = st.text(st.characters(codec="utf-8"), min_size=1)
_texts = _values.filter(str.strip)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "action": st.lists(_values, min_size=1, max_size=3),
            "outcome": st.lists(st.sampled_from(["success", "denied"]), min_size=1),
            "activity": st.lists(st.sampled_from(["people", "reading"]), min_size=1),
            "tenant_id": _values,
            "target_id": _values,
            "text": _texts,
        },
    )
)
def test_what_is_formatted_is_parsed_again(filters: dict[str, Any]) -> None:
    """`text_of` and `parse` are each other's inverse, whatever characters the values hold."""
    assert parse(text_of(filters)) == filters


def test_times_are_formatted_as_iso_8601() -> None:
    """A moment stands in the text as the command line takes it."""
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert text_of({"since": moment, "user_id": None}) == "since:2026-01-31T12:00:00+00:00"


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but an `InvalidQuery` ever comes of odd input."""
    with contextlib.suppress(InvalidQuery):
        parse(text)
