"""What the pages say, in each language: catalogues, `messages/<language>/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "zh": "中文"}
"""The languages there are, and what each calls itself; the first is the one for want of another."""
DEFAULT: Final = "en"


class Messages:
    """The messages of one language, by dotted keys such as `trail.empty`."""

    def __init__(self, language: str, catalogue: Mapping[str, Any]) -> None:
        self.language = language
        self._texts = dict(_flat(catalogue))

    def __call__(self, key: str, **values: object) -> str:
        """The message, with the values in its places.

        Where `count` is 1, that of `key_one`, if there is one.
        """
        if values.get("count") == 1 and f"{key}_one" in self._texts:
            key = f"{key}_one"
        return self._texts[key].format_map(values)

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def raw(self, key: str) -> str:
        """The message as it stands in the catalogue."""
        return self._texts[key]

    def section(self, name: str) -> dict[str, str]:
        """The messages below a key, by the rest of theirs: what a script on the page says."""
        start = f"{name}."
        return {
            key.removeprefix(start): text
            for key, text in self._texts.items()
            if key.startswith(start)
        }


@cache
def messages_in(language: str) -> Messages:
    """The messages of one of the `LANGUAGES`."""
    catalogue: dict[str, Any] = {}
    for part in (files("muniment.http.viewer") / "messages" / language).iterdir():
        catalogue |= tomllib.loads(part.read_text(encoding="utf-8"))
    return Messages(language, catalogue)


def language_of(asked: str | None, accepted: str) -> str:
    """The language of a page: the one asked for, else the best of an Accept-Language header."""
    if asked is not None and asked in LANGUAGES:
        return asked
    liked: list[tuple[float, str]] = []
    for part in accepted.split(",")[:20]:
        tag, _, quality = part.strip().partition(";q=")
        language = tag.partition("-")[0].lower()
        try:
            liked.append((float(quality or 1), language))
        except ValueError:
            continue
    ranked = sorted(liked, key=lambda each: -each[0])
    return next(
        (language for like, language in ranked if like > 0 and language in LANGUAGES), DEFAULT
    )


def _flat(catalogue: Any, start: str = "") -> Iterator[tuple[str, str]]:
    """Each message under its dotted key; those of a list under their numbers."""
    listed = enumerate(catalogue) if isinstance(catalogue, list) else catalogue.items()
    for key, value in listed:
        if isinstance(value, str):
            yield f"{start}{key}", value
        else:
            yield from _flat(value, f"{start}{key}.")
