"""JSON as a tree to be unfolded: what a page shows of an event's details."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

Kind = Literal["object", "array", "string", "number", "boolean", "null"]
_NODES: Final = 400
_CHARACTERS: Final = 20_000
_OF_A_STRING: Final = 600
_OPEN_LEVELS: Final = 2
_OPEN_CHILDREN: Final = 40


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A value and what is in it.

    `key` is its name in an object, or its place in an array. `text` is a scalar as JSON spells it,
    a string without its quotes. `size` counts what an object or array holds, `left_out` how much of
    it (values, or characters of a string) is not shown.
    """

    key: str | int | None
    kind: Kind
    text: str = ""
    children: tuple[Node, ...] = ()
    size: int = 0
    left_out: int = 0
    is_open: bool = False


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """The children of a value, and whether something was left out of them."""

    nodes: tuple[Node, ...]
    is_cut: bool


def tree_of(value: dict[str, Any], *, whole: bool = False) -> Tree:
    """The tree of an object; unless it is to be `whole`, as much of it as is quick to show."""
    growing = _Growing(whole=whole)
    nodes, left_out = growing.children(value.items(), 0)
    return Tree(nodes=nodes, is_cut=growing.is_cut or left_out > 0)


class _Growing:
    """Spends a budget, from the top down: what is beyond it is counted and left out."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._nodes = _NODES
        self._characters = _CHARACTERS
        self.is_cut = False

    def children(
        self, items: Iterable[tuple[str | int, Any]], level: int
    ) -> tuple[tuple[Node, ...], int]:
        """The nodes of what is in a container, and how many of them are left out."""
        given = list(items)
        shown = given if self._whole else given[: max(0, self._nodes)]
        # Its own are counted before theirs, or a deep first one would hide all its neighbours.
        self._nodes -= len(shown)
        nodes = tuple(self._node(key, value, level) for key, value in shown)
        left_out = len(given) - len(shown)
        self.is_cut |= left_out > 0
        return nodes, left_out

    def _node(self, key: str | int, value: Any, level: int) -> Node:
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            nodes, left_out = self.children(items, level + 1)
            return Node(
                key=key,
                kind="object" if isinstance(value, dict) else "array",
                children=nodes,
                size=len(value),
                left_out=left_out,
                is_open=level + 1 < _OPEN_LEVELS and len(value) <= _OPEN_CHILDREN,
            )
        if isinstance(value, str):
            most = min(_OF_A_STRING, max(0, self._characters))
            text = value if self._whole else value[:most]
            self._characters -= len(text)
            self.is_cut |= len(text) < len(value)
            return Node(key=key, kind="string", text=text, left_out=len(value) - len(text))
        return Node(key=key, kind=_kind_of(value), text=msgspec.json.encode(value).decode())


def _kind_of(value: Any) -> Kind:
    if value is None:
        return "null"
    return "boolean" if isinstance(value, bool) else "number"
