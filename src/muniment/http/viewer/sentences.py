"""An event as a sentence: who did what to what, on whose behalf, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from muniment.actions import Catalogue
from muniment.event import Actor, Event, Outcome, Target
from muniment.filter_language import text_of
from muniment.http.viewer.messages import Messages
from muniment.visible import visible

MANY: Final = 3
_PLACE: Final = "{targets}"
_LONGEST: Final = 60


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a sentence. Names are parts of their own: each may run in its own direction.

    `query` finds, in the filter language, the events of the actor or target that is named.
    """

    kind: Literal["text", "action", "actor", "target"]
    text: str
    type: str | None = None
    id: str | None = None
    query: str | None = None


def sentence_of(event: Event, catalogue: Catalogue, say: Messages) -> list[Part]:
    """The sentence in the language of `say`, in parts that are safe to show."""
    actor, *principals = event.actor.chain()
    separator, verb, place = _phrase(event, catalogue, say)
    before, _, after = place.partition(_PLACE)
    parts = [_actor(actor, say), _text(separator), Part(kind="action", text=verb), _text(before)]
    parts += [*_targets(event, say), _text(after)]
    for principal in principals:
        parts += [_text(say("sentence.for")), _actor(principal, say)]
    return [part for part in parts if part.text]


def plain(parts: list[Part]) -> str:
    """The sentence as plain text."""
    return "".join(part.text for part in parts)


def _phrase(event: Event, catalogue: Catalogue, say: Messages) -> tuple[str, str, str]:
    """What follows the actor, what was done, and how it goes on, with a place for the targets."""
    key = f"phrase.{event.action}"
    went_wrong = event.outcome in {Outcome.FAILURE, Outcome.DENIED}
    if f"{key}.0" in say:
        # Not through `say`, which would fill the place in.
        going_on = say.raw(f"{key}.3" if event.targets else f"{key}.2")
        if went_wrong and not event.action.endswith("_failed"):
            verb = say(f"sentence.{event.outcome.value}") + say(f"{key}.1")
        else:
            verb = say(f"{key}.0")
        return say("sentence.after_actor"), verb, going_on
    title = visible(catalogue.describe(event.action).title)
    ended = event.outcome.value if went_wrong else "done"
    going_on = say("sentence.before_targets") + _PLACE if event.targets else ""
    separator = "sentence.after_actor" if went_wrong else "sentence.colon"
    return say(separator), say(f"sentence.unknown_{ended}", title=title), going_on


def _targets(event: Event, say: Messages) -> Iterator[Part]:
    for n, target in enumerate(event.targets[:MANY]):
        if n:
            yield _text(say("sentence.comma"))
        if target.name or not target.id.lower().startswith(target.type.lower()):
            yield _text(f"{_type(target.type, say)} ")
        yield _target(target)
    more = len(event.targets) - MANY
    if more > 0:
        yield _text(say("sentence.and_more", count=more))


def _actor(actor: Actor, say: Messages) -> Part:
    is_platform = actor.type == "system" and actor.name is None and actor.id == "system"
    name = say("actor.system") if is_platform else actor.name or actor.id
    return Part(
        kind="actor",
        text=_short(name),
        type=actor.type,
        id=actor.id,
        query=text_of({"actor_id": f"{actor.type}:{actor.id}"}),
    )


def _target(target: Target) -> Part:
    return Part(
        kind="target",
        text=_short(target.name or target.id),
        type=target.type,
        id=target.id,
        query=text_of({"target_id": target.id, "target_type": target.type}),
    )


def _type(type: str, say: Messages) -> str:
    return say(f"actor.{type}") if f"actor.{type}" in say and type != "system" else _short(type)


def _text(text: str) -> Part:
    return Part(kind="text", text=text)


def _short(text: str) -> str:
    shown = visible(text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
