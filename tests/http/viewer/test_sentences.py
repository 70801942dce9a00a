"""An event as a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.actions import AuditAction, standard_catalogue
from muniment.event import Actor, Event, Outcome, Target
from muniment.filter_language import parse
from muniment.http.viewer.messages import LANGUAGES, messages_in
from muniment.http.viewer.pieces import told
from muniment.http.viewer.sentences import Part, plain, sentence_of
from muniment.query import make_filter
from muniment.sealing import utc_now
from muniment.visible import is_hidden

_CATALOGUE = standard_catalogue()
_ANN = Actor.user("u1", name="Ann")
_BEN = Target("user", "u2", "Ben")


def _parts(event: Event, language: str = "en") -> list[Part]:
    return sentence_of(event, _CATALOGUE, messages_in(language))


def _said(action: str, language: str = "en", **fields: object) -> str:
    given: dict[str, object] = {"actor": _ANN, "outcome": Outcome.SUCCESS, **fields}
    return plain(_parts(Event(action=action, **given), language))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"action": "login"}, "Ann logged in"),
        ({"action": "user_delete", "targets": [_BEN]}, "Ann deleted user Ben"),
        ({"action": "role_assign", "targets": [_BEN]}, "Ann granted a role to user Ben"),
        ({"action": "user_create"}, "Ann created a user"),
        (
            {"action": "user_delete", "targets": [_BEN], "outcome": "denied"},
            "Ann was not allowed to delete user Ben",
        ),
        (
            {"action": "user_delete", "targets": [_BEN], "outcome": "failure"},
            "Ann failed to delete user Ben",
        ),
        ({"action": "login_failed", "outcome": "failure"}, "Ann failed to log in"),
    ],
)
def test_it_says_who_did_what_to_what_and_how_it_ended(
    fields: dict[str, object], sentence: str
) -> None:
    """In plain words."""
    assert _said(**fields) == sentence  # type: ignore[arg-type]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("action", AuditAction)
def test_every_standard_action_has_a_phrase_of_its_own(action: str, language: str) -> None:
    """With and without targets, and none is left as a name of the code's."""
    for outcome in Outcome:
        for targets in ([], [_BEN]):
            said = _said(action, language, outcome=outcome, targets=targets)
            assert action not in said.split()
            assert "{" not in said
            assert said == said.strip()
            assert ("Ben" in said) == bool(targets)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("action", AuditAction)
def test_how_it_ended_changes_the_words(action: str, language: str) -> None:
    """Unless the action is itself a failure."""
    said = [
        _said(action, language, outcome=outcome) for outcome in ("success", "failure", "denied")
    ]
    assert len(set(said)) == (1 if action.endswith("_failed") else 3)


def test_an_unknown_action_is_told_by_its_title() -> None:
    """Applications have actions of their own."""
    assert "Invoice approve" in _said("invoice.approve", targets=[Target("invoice", "i7")])


def test_delegation_is_told_to_its_end() -> None:
    """An agent's agent, for a person."""
    inner = Actor.agent("a1", name="Planner", on_behalf_of=_ANN)
    actor = Actor.agent("a2", name="Dispatch bot", on_behalf_of=inner)
    assert _said("user_create", actor=actor).endswith(", for Planner, for Ann")


def test_whoever_has_no_name_is_told_by_id() -> None:
    """Actors and targets."""
    said = _said("user_delete", actor=Actor.service("cron-7"), targets=[Target("user", "u9")])
    assert said == "cron-7 deleted user u9"


def test_only_some_of_many_targets_are_named() -> None:
    """The others are counted."""
    targets = [Target("file", f"f{n}") for n in range(500)]
    said = _said("user_delete", targets=targets)
    assert "f2" in said
    assert "f3" not in said.split()
    assert said.endswith("and 497 more")


@pytest.mark.parametrize("language", LANGUAGES)
@given(name=st.text(min_size=1, max_size=60))
def test_nothing_that_is_hidden_reaches_the_sentence(language: str, name: str) -> None:
    """No control character, no ANSI escape, nothing that turns the text around."""
    actor = Actor.user("u1", name=name)
    event = Event(action="x", actor=actor, targets=(Target("file", "f", name),))
    assert [c for c in plain(_parts(event, language)) if is_hidden(c)] == []


@given(name=st.text(st.sampled_from("<>&\"'{}%ab"), min_size=1, max_size=30))
def test_names_are_never_markup(name: str) -> None:
    """Whatever a name holds, the only tags are ours."""
    event = Event(action=name, actor=Actor.user("u1", name=name), targets=(Target(name, name),))
    html = str(told(_parts(event), lambda query: f"?q={len(query)}"))
    inner = html
    for own in ('<span class="did">', "</span>", "</bdi>", "</a>"):
        inner = inner.replace(own, "")
    assert all(tag.startswith(("a href=", 'bdi class="')) for tag in inner.split("<")[1:])


def test_every_name_stands_apart_from_the_direction_of_the_others() -> None:
    """Arabic beside English reads right only if each is isolated (HTML, bdi)."""
    event = Event(action="user_delete", actor=Actor.user("u", name="ليلى حداد"), targets=(_BEN,))
    html = str(told(_parts(event)))
    assert '<bdi class="actor" data-type="user">ليلى حداد</bdi>' in html
    assert '<bdi class="target" data-type="user">Ben</bdi>' in html


@given(id=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40))
def test_a_name_leads_to_the_events_with_it(id: str) -> None:
    """What it asks for in the filter language is what the event has."""
    event = Event(action="x", actor=Actor.agent(id), targets=(Target(id, id),))
    for part in _parts(event):
        if part.query is not None:
            wanted = make_filter(now=utc_now(), given=parse(part.query))
            assert wanted.matches(event, "", _CATALOGUE.category_of)


def test_long_names_are_cut() -> None:
    """A name of a thousand letters is no name to read."""
    said = _said("login", actor=Actor.user("u1", name="W" * 1000))
    assert len(said) < 200
    assert "…" in said
