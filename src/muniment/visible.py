"""Text that is safe to show: what could control a terminal, or hide, is shown escaped."""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Joiners belong to the spelling of Persian, of Indian languages and of emoji, and the rest are
# signs that are seen.
_SEEN: Final = frozenset(
    "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd"
)


def visible(text: str) -> str:
    """The text, with what is hidden (`is_hidden`) as the escapes that Python writes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if is_hidden(c) else c for c in text)


def is_hidden(character: str) -> bool:
    """Whether a character is not seen, or moves others about, where it is shown."""
    return unicodedata.category(character) in _HIDDEN and character not in _SEEN


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if named:
        return named
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
