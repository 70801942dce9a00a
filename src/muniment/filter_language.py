r"""The filter language of the command line and the viewer: `action:role_* outcome:denied "ada"`.

Each condition is a key, a colon and a value; the keys are the command line's options. What has no
key is text that the body holds. All conditions hold; `action`, `activity` and `outcome` may be
repeated for alternatives. A value with a space or a quote stands in double quotes, in which `\"` is
a quote and `\\` a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from muniment.errors import InvalidQuery
from muniment.event import ActorType

KEYS: Final[Mapping[str, str]] = {
    "action": "action",
    "category": "category",
    "activity": "activity",
    "outcome": "outcome",
    "actor": "actor_id",
    "actor-type": "actor_type",
    "user": "user_id",
    "agent": "agent_id",
    "target": "target_id",
    "target-type": "target_type",
    "tenant": "tenant_id",
    "request": "request_id",
    "session": "session_id",
    "trace": "trace_id",
    "run": "run_id",
    "since": "since",
    "until": "until",
    "text": "text",
}
"""The keys of the language, and the argument of a search that each stands for."""

_SEVERAL: Final = ("action", "activity", "outcome")
KEY_OF: Final = {argument: key for key, argument in KEYS.items()}
"""The key that stands for each argument of a search."""
_PART = re.compile(r'(?:([a-z-]+):)?(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)').match
_SPACE = re.compile(r"\s*").match
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BARE = re.compile(r"(?![a-z-]+:)[^\s\"]+").fullmatch
_BARE_VALUE = re.compile(r"[^\s\"]+").fullmatch


def parse(text: str) -> dict[str, Any]:
    """The arguments of a search, as `AuditLog.search` takes them, that the text asks for.

    `actor:user:u1` gives type and id. Raises `InvalidQuery`, naming the key.
    """
    found: dict[str, Any] = {}
    words: list[str] = []
    for key, value in _parts(text):
        if key is None:
            words.append(value)
            continue
        name = KEYS.get(key)
        if name is None:
            raise InvalidQuery(
                key, f"is no key (text with a colon needs quotes); there are {', '.join(KEYS)}"
            )
        if not value:
            raise InvalidQuery(key, "has no value; leave it out")
        if name in _SEVERAL:
            found.setdefault(name, []).append(value)
            continue
        if name == "actor_id":
            kind, colon, bare = value.partition(":")
            if colon and kind in get_args(ActorType):
                _set(found, "actor-type", "actor_type", kind)
                value = bare  # noqa: PLW2901 - without its type
        _set(found, key, name, value)
    if words:
        _set(found, "text", "text", " ".join(words))
    return found


def text_of(filters: Mapping[str, Any]) -> str:
    """The text that asks for those arguments of a search; what is None is left out."""
    parts = []
    for name, value in filters.items():
        if value is None or value == ():
            continue
        several = value if isinstance(value, list | tuple) else (value,)
        for one in several:
            shown = one.isoformat() if hasattr(one, "isoformat") else str(one)
            if name == "text" and _BARE(shown):
                parts.append(shown)
            else:
                parts.append(f"{KEY_OF[name]}:{_quoted(shown)}")
    return " ".join(parts)


def _parts(text: str) -> Iterator[tuple[str | None, str]]:
    """Each key (None without one) and its value, unquoted."""
    place = _after_space(text, 0)
    while place < len(text):
        part = _PART(text, place)
        if part is None:
            raise InvalidQuery("q", f"{text[place : place + 40]!r} has a quote out of place")
        key, quoted, bare = part.groups()
        yield key, bare if quoted is None else _ESCAPED.sub(r"\1", quoted)
        place = _after_space(text, part.end())


def _after_space(text: str, place: int) -> int:
    found = _SPACE(text, place)
    return found.end() if found else place


def _set(found: dict[str, Any], key: str, name: str, value: str) -> None:
    if found.setdefault(name, value) != value:
        raise InvalidQuery(key, f"is given twice: {found[name]!r:.60} and {value!r:.60}")


def _quoted(value: str) -> str:
    if _BARE_VALUE(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
