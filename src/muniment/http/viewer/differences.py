"""Before and after: what a page shows of the changes of an event."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, Final, Literal

import msgspec

from muniment.event import Change

Mark = Literal["same", "old", "new"]
_MOST_TOKENS: Final = 1_500
_MOST_LINES: Final = 600
_AROUND: Final = 2
_LONG_LINE: Final = 300
# A word, white space, or one sign; of scripts without spaces each character is a word.
_tokens = re.compile(
    "[^\\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff]+|\\s+|.",
    re.DOTALL,
).findall


class Piece(msgspec.Struct, frozen=True):
    """A part of a text: there before and after, before only, or after only."""

    mark: Mark
    text: str


class Line(msgspec.Struct, frozen=True):
    """A line of a text, likewise; or one that stands for `skipped` lines that are the same."""

    mark: Mark
    text: str = ""
    skipped: int = 0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field before and after.

    `form` says which of the others are there: "inline" has pieces of `old` and of `new`, "lines"
    has `lines`. `left_out` counts the characters that are not shown.
    """

    field: str
    kind: Literal["added", "removed", "changed", "same"]
    form: Literal["inline", "lines"]
    old: tuple[Piece, ...] = ()
    new: tuple[Piece, ...] = ()
    lines: tuple[Line, ...] = ()
    left_out: int = 0


def difference_of(change: Change, *, most: int | None = 20_000) -> Difference:
    """A change as a difference, of at most so many characters of each side."""
    old, new = _spelled(change.old), _spelled(change.new)
    if change.old is None:
        kind: Literal["added", "removed", "changed", "same"] = "added"
    elif change.new is None:
        kind = "removed"
    else:
        kind = "changed"
    if change.old == change.new and type(change.old) is type(change.new):
        kind = "same"
    old_cut, new_cut = old[:most], new[:most]
    left_out = len(old) - len(old_cut) + len(new) - len(new_cut)
    if "\n" not in old_cut + new_cut and len(old_cut) + len(new_cut) <= 2 * _LONG_LINE:
        before, after = _pieces(old_cut, new_cut)
        if change.old is None or change.new is None:
            before, after = (_all("old", old_cut), _all("new", new_cut))
        return Difference(
            field=change.field, kind=kind, form="inline", old=before, new=after, left_out=left_out
        )
    before_lines = () if change.old is None else old_cut.split("\n")
    after_lines = () if change.new is None else new_cut.split("\n")
    return Difference(
        field=change.field,
        kind=kind,
        form="lines",
        lines=tuple(_folded(_lines(before_lines, after_lines))),
        left_out=left_out,
    )


def _spelled(value: Any) -> str:
    """A value as one reads it: strings as they are, what holds others over several lines."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)


def _all(mark: Mark, text: str) -> tuple[Piece, ...]:
    return (Piece(mark, text),) if text else ()


def _pieces(old: str, new: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts, the words marked in which they differ."""
    before, after = _words(old), _words(new)
    if len(before) + len(after) > _MOST_TOKENS:
        return _all("old", old), _all("new", new)
    matcher = SequenceMatcher(a=before, b=after, autojunk=False)
    if matcher.ratio() < 0.3:  # what has little in common reads better as two whole texts
        return _all("old", old), _all("new", new)
    olds: list[Piece] = []
    news: list[Piece] = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        same = tag == "equal"
        if i1 < i2:
            olds.append(Piece("same" if same else "old", "".join(before[i1:i2])))
        if j1 < j2:
            news.append(Piece("same" if same else "new", "".join(after[j1:j2])))
    return tuple(olds), tuple(news)


def _words(text: str) -> list[str]:
    words: list[str] = []
    for token in _tokens(text):
        # A mark belongs to the letter that it stands on, and no tag may part them.
        if words and unicodedata.category(token[0]).startswith("M"):
            words[-1] += token
        else:
            words.append(token)
    return words


def _lines(old: Sequence[str], new: Sequence[str]) -> list[Line]:
    if len(old) + len(new) > _MOST_LINES:  # comparing them takes the square of that
        start = _common(old, new)
        end = _common(old[start:][::-1], new[start:][::-1])
        return [
            *(Line("same", line) for line in old[:start]),
            *(Line("old", line) for line in old[start : len(old) - end]),
            *(Line("new", line) for line in new[start : len(new) - end]),
            *(Line("same", line) for line in old[len(old) - end :]),
        ]
    found: list[Line] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag == "equal":
            found += [Line("same", line) for line in old[i1:i2]]
        else:
            found += [Line("old", line) for line in old[i1:i2]]
            found += [Line("new", line) for line in new[j1:j2]]
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines at the beginning are the same."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _folded(lines: Sequence[Line]) -> list[Line]:
    """The lines, long runs that are the same cut down to those around the changes."""
    differ = [n for n, line in enumerate(lines) if line.mark != "same"]
    near = {m for n in differ for m in range(n - _AROUND, n + _AROUND + 1)}
    found: list[Line] = []
    for n, line in enumerate(lines):
        if n in near or not differ:
            found.append(line)
        elif found and found[-1].skipped:
            found[-1] = Line("same", skipped=found[-1].skipped + 1)
        else:
            found.append(Line("same", skipped=1))
    return found
