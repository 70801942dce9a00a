"""The guarantees name the tests that hold them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_NAMED = sorted(
    set(
        re.findall(
            r"`((?:tests|src)/[\w/]+\.py)::(\w+)`", (_ROOT / "docs/guarantees.md").read_text()
        )
    )
)


@pytest.mark.parametrize(("file", "name"), _NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    """Whoever reads a promise can run the test that holds it."""
    assert re.search(rf"def {name}\(", (_ROOT / file).read_text())


def test_every_line_of_a_table_names_a_test() -> None:
    """There is no promise without a test."""
    lines = [
        line
        for line in (_ROOT / "docs/guarantees.md").read_text().splitlines()
        if line.startswith("| ") and "held by" not in line
    ]
    assert lines
    assert [line for line in lines if "::test_" not in line] == []
