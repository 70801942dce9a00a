"""Public keys as they are given to a command: themselves, or the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from muniment.errors import InvalidKey

if TYPE_CHECKING:  # what knows keys is loaded where there are some: most commands do without
    from muniment.keys import VerifyingKey

KEY_OR_FILE: Final = "KEY|@FILE"


def known_keys(given: Iterable[str], *, option: str) -> list[VerifyingKey]:
    """The keys of an option that may be repeated: each is a key, or @ and a file, one key a line.

    Raises `InvalidKey`, which names the option.
    """
    return [key for each in given for key in _keys_in(each, option)]


def _keys_in(given: str, option: str) -> Iterator[VerifyingKey]:
    from muniment.keys import VerifyingKey

    texts = [given]
    if given.startswith("@"):
        try:
            texts = Path(given[1:]).read_text().split("\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise InvalidKey(f"{option}: {given[1:]}: can't be read: {reason}") from None
    for text in texts:
        if text.strip():
            try:
                yield VerifyingKey.parse(text.strip())
            except InvalidKey as error:
                forgotten = texts == [given] and _is_file(given)
                hint = f"; for a file, write @{given}" if forgotten else ""
                raise InvalidKey(f"{option}: {error}{hint}") from None


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # no path at all: it is too long, or has a NUL
        return False
