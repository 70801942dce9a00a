"""Small pieces of HTML that many pages share: times, outcomes, sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from typing import Final, Literal

from markupsafe import Markup

from muniment.event import Outcome
from muniment.http.viewer.messages import Messages
from muniment.http.viewer.sentences import Part

Form = Literal["short", "full", "zones", "time", "range"]

# A shape for each outcome: no meaning rests on colour alone.
_SHAPES: Final = {
    Outcome.SUCCESS: "M4 8.5 7 11.5 12.5 5",
    Outcome.FAILURE: "M4.5 4.5 11.5 11.5 M11.5 4.5 4.5 11.5",
    Outcome.DENIED: "M3.5 8h9",
    Outcome.UNKNOWN: "M5.5 6a2.5 2.5 0 1 1 3.4 2.3c-.6.3-.9.7-.9 1.4M8 12.4v.1",
}


_BADGE: Final = Markup(
    '<span class="outcome" data-outcome="%s"><svg viewBox="0 0 16 16" aria-hidden="true">'
    '<path d="%s"/></svg><span class="%s">%s</span></span>'
)
_TIME: Final = Markup('<time datetime="%s" data-form="%s" title="%s">%s</time>')
_TEXT: Final = Markup("%s")
_ACTION: Final = Markup('<span class="did">%s</span>')
_NAME: Final = Markup('<bdi class="%s" data-type="%s">%s</bdi>')
_LINK: Final = Markup('<a href="%s">%s</a>')


@cache
def badge_of(outcome: Outcome | str, say: Messages, *, short: bool = False) -> Markup:
    """How it ended: a shape and a word; the word for screen readers only if it is to be short."""
    outcome = Outcome(outcome)
    shape, word = _SHAPES[outcome], say(f"outcome.{outcome.value}")
    return _BADGE % (outcome.value, shape, "vh" if short else "outcome-word", word)


def time_of(moment: datetime, form: Form = "short") -> Markup:
    """A time in UTC, which a script on the page shows as the reader likes it."""
    whole = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    stamp = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return _TIME % (stamp, form, whole, whole)


def told(parts: Iterable[Part], find: Callable[[str], str] | None = None) -> Markup:
    """A sentence: what was done is emphasised, names stand apart; `find` makes them links."""
    return Markup("").join(_piece(part, find) for part in parts)


def _piece(part: Part, find: Callable[[str], str] | None) -> Markup:
    if part.kind == "text":
        return _TEXT % part.text
    if part.kind == "action":
        return _ACTION % part.text
    name = _NAME % (part.kind, part.type or "", part.text)
    if find is None or part.query is None:
        return name
    return _LINK % (find(part.query), name)
