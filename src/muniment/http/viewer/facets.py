"""Facets as the page shows them: the most frequent values, each a link that asks for it or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from muniment import filter_language
from muniment.actions import Catalogue
from muniment.counting import Counted, Facet, FacetValue
from muniment.http.viewer.messages import DEFAULT, Messages
from muniment.visible import visible

SHOWN: Final = ("outcome", "category", "action", "actor", "target")
_ARGUMENT: Final = {"actor": "actor_id", "target": "target_id"}
_MOST: Final = 10
_MOST_FOLDED: Final = 40


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A value of a facet. `share` is of the most frequent one, in per cent; `url` toggles it."""

    label: str
    hint: str
    events: int
    share: int
    is_chosen: bool
    url: str
    type: str | None = None


class DrawnFacet(msgspec.Struct, frozen=True, kw_only=True):
    """A facet. Unless it is exact, there are at least so many events of each value.

    `folded` are the less frequent values, to be shown on demand.
    """

    name: str
    choices: tuple[Choice, ...]
    exact: bool
    folded: tuple[Choice, ...] = ()


def facets_of(
    counted: Counted,
    conditions: Mapping[str, Any],
    *,
    catalogue: Catalogue,
    say: Messages,
    link: Callable[[str], str],
) -> list[DrawnFacet]:
    """The facets that have values, and what is chosen of them; `link` gives a query's link."""
    found = []
    for name in SHOWN:
        facet = counted.facets.get(name)
        if facet is None or not facet.values:
            continue
        most = max(value.events for value in facet.values)
        choices = [
            _choice(name, value, most, conditions, catalogue=catalogue, say=say, link=link)
            for value in facet.values[: _MOST + _MOST_FOLDED]
        ]
        found.append(_drawn(name, choices, exact=facet.exact))
    return found


def facets_of_tenants(
    counted: Counted, chosen: str | None, *, link: Callable[[str | None], str]
) -> list[DrawnFacet]:
    """The facet of tenants, none if it has no values; `link` leads to one of them, or to all."""
    if chosen is not None:
        facet = Facet(values=[FacetValue(value=chosen, events=counted.events)], exact=counted.exact)
    else:
        facet = counted.facets["tenant"]
    if not facet.values:
        return []
    choices = [
        Choice(
            label=visible(value.value),
            hint=visible(value.value),
            events=value.events,
            share=_share(value.events, facet.values[0].events),
            is_chosen=chosen is not None,
            url=link(None if chosen is not None else value.value),
        )
        for value in facet.values[: _MOST + _MOST_FOLDED]
    ]
    return [_drawn("tenant", choices, exact=facet.exact)]


def _drawn(name: str, choices: list[Choice], *, exact: bool) -> DrawnFacet:
    return DrawnFacet(
        name=name, choices=tuple(choices[:_MOST]), folded=tuple(choices[_MOST:]), exact=exact
    )


def _share(events: int, most: int) -> int:
    return max(1, round(100 * events / max(most, 1)))


def toggled(conditions: Mapping[str, Any], name: str, value: str) -> tuple[dict[str, Any], bool]:
    """The conditions with a facet's value chosen, or no longer; and whether it was chosen."""
    argument = _ARGUMENT.get(name, name)
    changed = dict(conditions)
    now = changed.get(argument)
    if isinstance(now, list):
        was = value in now
        changed[argument] = [v for v in now if v != value] if was else [*now, value]
        if not changed[argument]:
            del changed[argument]
        return changed, was
    if name == "actor":
        kind, _, bare = value.partition(":")
        was = now == bare and changed.get("actor_type") in {None, kind}
        changed.pop("actor_type", None)
        value = bare if was else value
    else:
        if name == "target":
            changed.pop("target_type", None)  # it was that of the target before
        was = now == value
    changed.pop(argument, None)
    if not was:
        changed[argument] = [value] if name in {"action", "outcome"} else value
    return changed, was


def _choice(
    name: str,
    value: FacetValue,
    most: int,
    conditions: Mapping[str, Any],
    *,
    catalogue: Catalogue,
    say: Messages,
    link: Callable[[str], str],
) -> Choice:
    changed, is_chosen = toggled(conditions, name, value.value)
    return Choice(
        label=_label(name, value, catalogue, say),
        hint=visible(value.value),
        events=value.events,
        share=_share(value.events, most),
        is_chosen=is_chosen,
        url=link(filter_language.text_of(changed)),
        type=value.type,
    )


def _label(name: str, value: FacetValue, catalogue: Catalogue, say: Messages) -> str:
    if name in {"outcome", "category"}:
        return say(f"{name}.{value.value}")
    if name == "action":
        key = f"phrase.{value.value}"
        if say.language != DEFAULT and f"{key}.1" in say:
            return say(f"{key}.1") + say(f"{key}.2")
        return visible(catalogue.describe(value.value).title)
    bare = value.value.partition(":")[2] if name == "actor" else value.value
    return visible(value.name or bare)
