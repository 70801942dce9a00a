"""The facets beside the list: what each value's link asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from muniment.actions import standard_catalogue
from muniment.counting import Counted, Facet, FacetValue
from muniment.filter_language import parse
from muniment.http.viewer.facets import Choice, DrawnFacet, facets_of
from muniment.http.viewer.messages import messages_in

_NOW = datetime(2026, 1, 5, tzinfo=UTC)


def _counted(**facets: list[FacetValue]) -> Counted:
    return Counted(
        since=_NOW,
        until=_NOW,
        width=1,
        events=0,
        exact=True,
        bars=[],
        facets={name: Facet(values=values, exact=False) for name, values in facets.items()},
    )


def _drawn(q: str, /, language: str = "en", **facets: list[FacetValue]) -> dict[str, DrawnFacet]:
    found = facets_of(
        _counted(**facets),
        parse(q),
        catalogue=standard_catalogue(),
        say=messages_in(language),
        link=lambda query: query,
    )
    return {facet.name: facet for facet in found}


def _only(q: str, facet: str, value: str, **of: Any) -> Choice:
    values: Any = {facet: [FacetValue(value=value, events=3, **of)]}
    [choice] = _drawn(q, **values)[facet].choices
    return choice


@pytest.mark.parametrize(
    ("name", "value", "q", "asked"),
    [
        ("action", "login", "", "action:login"),
        ("action", "login", "action:logout", "action:logout action:login"),
        ("outcome", "denied", "ann", "ann outcome:denied"),
        ("category", "role", "category:user", "category:role"),
        ("actor", "user:u1", "", "actor:user:u1"),
        ("actor", "user:u1", "actor:agent:a1", "actor:user:u1"),
        ("target", "u2", "since:7d", "since:7d target:u2"),
        ("target", "u2", "target:a1 target-type:agent", "target:u2"),
    ],
)
def test_a_value_that_is_not_chosen_can_be_added(name: str, value: str, q: str, asked: str) -> None:
    """Among alternatives where the language has them, else in place of another one."""
    choice = _only(q, name, value)
    assert not choice.is_chosen
    assert parse(choice.url) == parse(asked)


@pytest.mark.parametrize(
    ("name", "value", "q", "asked"),
    [
        ("action", "login", "action:login", ""),
        ("action", "login", "action:logout action:login", "action:logout"),
        ("category", "role", "category:role", ""),
        ("actor", "user:u1", "actor:user:u1 ann", "ann"),
        ("actor", "user:u1", "actor:u1", ""),
        ("target", "u2", "target:u2", ""),
        ("target", "u2", "target:u2 target-type:user ann", "ann"),
    ],
)
def test_a_value_that_is_chosen_can_be_taken_away(
    name: str, value: str, q: str, asked: str
) -> None:
    """And nothing else with it."""
    choice = _only(q, name, value)
    assert choice.is_chosen
    assert parse(choice.url) == parse(asked)


@pytest.mark.parametrize("odd", ['a "quoted" one', "with space", "user:x", "a:b:c", "\\", "中文"])
def test_any_id_can_be_asked_for(odd: str) -> None:
    """The link's query means the value, whatever it holds."""
    assert parse(_only("", "target", odd).url) == {"target_id": odd}
    assert parse(_only("", "actor", f"agent:{odd}").url) == {
        "actor_type": "agent",
        "actor_id": odd,
    }


def test_values_are_told_by_their_names() -> None:
    """What the newest event calls it, with nothing hidden in it."""
    assert _only("", "actor", "user:u1", type="user", name="Ann\u202e").label == "Ann\\u202e"
    assert _only("", "actor", "user:u1").label == "u1"


def test_standard_values_are_told_in_the_language_of_the_page() -> None:
    """Outcomes and categories."""
    drawn = _drawn("", "zh", outcome=[FacetValue(value="denied", events=1)])
    assert drawn["outcome"].choices[0].label == messages_in("zh")("outcome.denied")


def test_what_has_no_values_is_left_out() -> None:
    """An empty facet says nothing."""
    assert _drawn("", action=[]) == {}
