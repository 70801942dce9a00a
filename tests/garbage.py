"""What a caller may give by mistake or in malice: values of every kind, and objects that raise."""

from __future__ import annotations

import enum
from typing import Any, NoReturn

from hypothesis import strategies as st


class Trouble(Exception):
    """What `Hostile` raises."""


class Hostile:
    """Raises whatever is asked of it; only its hash is there, so that it can be a key."""

    def _refuse(self, *_: object) -> NoReturn:
        raise Trouble

    __hash__ = object.__hash__

    __str__ = __repr__ = __bool__ = __eq__ = __len__ = __iter__ = __int__ = __float__ = _refuse
    __format__ = __getattr__ = _refuse


class _NamelessType(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__name__":
            raise Trouble
        return super().__getattribute__(name)


class Shapeless(Hostile, metaclass=_NamelessType):
    """Even its type and its type's name can't be asked for; not for tools that must show it."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise Trouble


class HostileDict(dict[Any, Any]):
    """A mapping that says it has items, and raises when they are asked for."""

    def items(self) -> NoReturn:
        """Raise."""
        raise Trouble


class EndlessList(list[Any]):
    """A list whose iterator never ends."""

    def __iter__(self) -> Any:
        while True:
            yield "again"


class Colour(enum.Enum):
    """An enum whose values are no strings."""

    RED = frozenset({1})


def circular() -> dict[str, Any]:
    """A dict that contains itself, by way of a list."""
    outer: dict[str, Any] = {"list": []}
    outer["list"].append(outer)
    return outer


_any_text = st.text(st.characters(exclude_categories=()), max_size=20)
_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    _any_text,
    st.sampled_from(["", "u\0", "\ud800", "\x85"]),
    st.sampled_from([600, 5_000, 300_000]).map(lambda length: "é" * length),
    st.binary(max_size=20),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.complex_numbers(),
    st.sampled_from([Colour.RED, object, print]),
    st.just(5000).map(lambda digits: 10**digits),
    st.builds(Hostile),
    st.builds(HostileDict, st.just({"a": 1})),
    st.builds(circular),
)
_keys = st.one_of(
    _any_text, st.none(), st.booleans(), st.integers(), st.binary(max_size=5), st.builds(Hostile)
)

anything: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_keys, inner, max_size=4),
        st.frozensets(st.one_of(st.integers(), _any_text, st.builds(Hostile)), max_size=4),
    ),
    max_leaves=12,
)
"""Nested values of every kind that Python has, JSON's and others."""
