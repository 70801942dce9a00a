"""A position in a table, (created_at, id), as text that a later run can go on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from muniment.errors import InvalidConfig

_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes.fromhex,
    "UUID": UUID,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "Decimal": Decimal,
}


def encode(key: tuple[Any, Any]) -> str:
    """The key as JSON that keeps the types: a comparison with another type finds other rows."""
    return json.dumps([_written(value) for value in key])


def decode(position: str) -> tuple[Any, Any]:
    """The key in a position. Raises `InvalidConfig` if it is none."""
    try:
        created_at, row_id = (_READERS[kind](text) for kind, text in json.loads(position))
    except (ValueError, TypeError, KeyError, ArithmeticError):
        raise InvalidConfig(f"position: {position!r:.80} is none of an earlier import") from None
    return created_at, row_id


def _written(value: Any) -> tuple[str, str]:
    kind = next((b.__name__ for b in type(value).__mro__ if b.__name__ in _READERS), None)
    if kind is None:
        raise InvalidConfig(f"table: a key of type {type(value).__name__} can't be kept in order")
    if isinstance(value, bytes):
        return kind, value.hex()
    return kind, value.isoformat() if isinstance(value, date) else str(value)
