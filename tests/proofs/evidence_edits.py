"""Evidence files that are edited, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from muniment.errors import VerificationError
from tests.proofs.evidence_files import bodies, verify

LEAVES = bodies(21)


def refused(file: bytes, **options: Any) -> str:
    """What is said of a file that does not hold."""
    with pytest.raises(VerificationError) as caught:
        verify(file, **options)
    return str(caught.value)


def edited(file: bytes, edit: Callable[[list[bytes]], Any]) -> bytes:
    """The file with its lines edited, the header being the first."""
    lines = file.splitlines(keepends=True)
    edit(lines)
    return b"".join(lines)


def with_header(file: bytes, **fields: Any) -> bytes:
    """The file with fields of its header changed, or left out where they are `...`."""
    header, _, rest = file.partition(b"\n")
    changed = {**json.loads(header), **fields}
    kept = {name: value for name, value in changed.items() if value is not ...}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n" + rest
