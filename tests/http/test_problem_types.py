from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import muniment.http

_ROOT = Path(__file__).parents[2]


def test_every_type_of_problem_is_documented() -> None:
    """Clients go by `type`: the table of the API's documentation has all that the code gives."""
    documented = (_ROOT / "docs" / "http-api.md").read_text()
    assert [name for name in sorted(set(_types())) if f"`{name}`" not in documented] == []


def _types() -> Iterator[str]:
    (place,) = muniment.http.__path__
    for file in Path(place).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name("Refusal"), args=[_, ast.Constant(value=str(name)), *_]
                ):
                    yield name
