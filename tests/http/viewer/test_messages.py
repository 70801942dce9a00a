"""The catalogues of messages, and which of them a page takes."""

from __future__ import annotations

import string
from collections import Counter

import pytest

from muniment.actions import AuditAction, Category
from muniment.event import Outcome
from muniment.http.viewer.messages import LANGUAGES, Messages, language_of, messages_in

_OTHERS = [language for language in LANGUAGES if language != "en"]
_FORMATTER = string.Formatter()


def _all(messages: Messages) -> dict[str, str]:
    return dict(messages._texts)


def _places(text: str) -> Counter[str]:
    return Counter(name for _, name, _, _ in _FORMATTER.parse(text) if name is not None)


@pytest.mark.parametrize("language", _OTHERS)
def test_every_language_says_the_same_things(language: str) -> None:
    """But for the forms of a count of 1, which some languages don't have."""
    english, other = _all(messages_in("en")), _all(messages_in(language))
    needed = {key for key in english if not key.endswith("_one")}
    assert needed - other.keys() == set()
    assert other.keys() - english.keys() == set()


@pytest.mark.parametrize("language", _OTHERS)
def test_every_language_fills_in_the_same_places(language: str) -> None:
    """A name in braces that one of them lacks would be an error on the page."""
    english, other = _all(messages_in("en")), _all(messages_in(language))
    differing = {
        key for key in english.keys() & other.keys() if _places(english[key]) != _places(other[key])
    }
    assert differing == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_message_is_empty_but_where_a_sentence_ends(language: str) -> None:
    """Only a phrase may end without more words."""
    empty = {key for key, text in _all(messages_in(language)).items() if not text.strip()}
    assert {key for key in empty if not key.startswith(("phrase.", "sentence."))} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_standard_action_outcome_and_category_has_its_words(language: str) -> None:
    """None falls back to a technical name."""
    say = messages_in(language)
    wanted = [f"phrase.{action.value}.0" for action in AuditAction]
    wanted += [f"outcome.{outcome.value}" for outcome in Outcome]
    wanted += [f"category.{category.value}" for category in Category]
    assert [key for key in wanted if key not in say] == []


def test_one_is_said_differently() -> None:
    """English has a plural."""
    say = Messages("en", {"x": {"found": "{count} events", "found_one": "1 event"}})
    assert [say("x.found", count=1), say("x.found", count=2)] == ["1 event", "2 events"]


def test_values_are_not_read_as_messages() -> None:
    """Braces in a value stay what they are."""
    say = Messages("en", {"x": "of {name}"})
    assert say("x", name="{secret} {0}") == "of {secret} {0}"


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de-DE,de;q=0.9,zh;q=0.5,en;q=0.4", "zh"),
        (None, "en;q=0.2, zh;q=0.1", "en"),
        (None, "zh;q=0, en", "en"),
        (None, "fr", "en"),
        (None, "zh;q=x, ;q=, en;q=nan", "en"),
        ("zh", "en", "zh"),
        ("en", "zh", "en"),
        ("xx", "zh", "zh"),
    ],
)
def test_a_page_is_in_the_language_asked_for_or_liked_best(
    asked: str | None, accepted: str, language: str
) -> None:
    """What the URL asks for comes before what the browser accepts; English is for want of both."""
    assert language_of(asked, accepted) == language
