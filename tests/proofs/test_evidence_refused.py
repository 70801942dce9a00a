"""What is no evidence file is refused, whatever it holds."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import merkle
from muniment.errors import VerificationError
from muniment.evidence import verify_evidence
from muniment.evidence.lines import MAX_LINE_BYTES
from tests.proofs.evidence_edits import LEAVES, edited, refused, with_header
from tests.proofs.evidence_files import KEY, bodies, body, note_of, verify, write

# --- what is no such file


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda file: file[:0], "the file is empty"),
        (lambda file: b"\n" + file, "the file is empty"),
        (gzip.compress, "line 1: "),
        (lambda file: b"\xff" + file, "line 1: is not the header"),
        (lambda file: file[:-1], "ends within a line"),
        (lambda file: file[:-100], "ends within a line"),
        (lambda file: file + b"\n", "line 23 (leaf 21): is none of"),
        (lambda file: file + file.splitlines(keepends=True)[-1], "line 23 (leaf 21): "),
        (lambda file: file + b'{"hashes":[],"omitted":0}\n', "omits 0 leaves"),
        (lambda file: file.replace(b"\n", b"\r\n"), "line 1: "),
        (lambda file: file.partition(b"\n")[2], "line 1: is not the header"),
        (lambda file: file.partition(b"\n")[0] + b"\n" + file, "line 2 (leaf 0): "),
        (lambda file: file.replace(b'"muniment/1"', b'"muniment/2"'), "of the format"),
        (
            lambda file: file.replace(b"192.0.2.1", b"192.0.2.\xff", 1),
            "line 2 (leaf 0): is no event",
        ),
        (lambda file: file.replace(b"\n", b"\n\n", 2), "line 2 (leaf 0): is none of"),
        (lambda file: file.replace(b'{"checkpoint"', b'{ "checkpoint"', 1), "line 1: "),
        (lambda file: file.replace(b'{"checkpoint"', b'{"a":1,"checkpoint"', 1), "line 1: "),
        (lambda file: file.replace(b',"tenant_id":"acme"}', b"}", 1), "line 1: "),
        (
            lambda file: file.replace(b'"tenant_id":"acme"', b'"tenant_id":"a","tenant_id":"acme"'),
            "line 1: ",
        ),
        (
            lambda file: file.replace(b'{"action"', b'{"action":"x","action"', 1),
            "line 2 (leaf 0): is an event, but not in its canonical form",
        ),
    ],
)
def test_what_is_no_evidence_is_refused(
    whole: bytes, edit: Callable[[bytes], bytes], says: str
) -> None:
    """Each malformation is a `VerificationError` that says where and what."""
    assert says in refused(edit(whole))


@pytest.mark.parametrize(
    "fields",
    [
        {name: ...}
        for name in (
            "checkpoint",
            "evidence",
            "first_leaf",
            "key_ids",
            "leaves",
            "origin",
            "tenant_id",
        )
    ]
    + [
        {"tenant_id": ""},
        {"tenant_id": "a\x00b"},
        {"tenant_id": 5},
        {"tenant_id": "x" * 513},
        {"origin": "acme"},
        {"origin": "example.com/audit/acm%65"},
        {"checkpoint": ""},
        {"checkpoint": "\n\n"},
        {"checkpoint": None},
        {"first_leaf": 1},
        {"first_leaf": -1},
        {"first_leaf": 2**70},
        {"leaves": 20},
        {"leaves": 22},
        {"leaves": 10**30},
        {"leaves": 20.5},
        {"key_ids": []},
        {"key_ids": ["x"]},
        {"more": 1},
        {"filter": {}},
        {"filter": []},
        {"old_checkpoint": "x"},
        {"old_checkpoint": None},
        {"consistency": []},
    ],
    ids=str,
)
def test_a_header_that_is_not_one_is_refused(whole: bytes, fields: dict[str, Any]) -> None:
    """Each field is needed, has one form, and is compared with what the file holds."""
    refused(with_header(whole, **fields))


_HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "line",
    [
        '{"hashes":[],"omitted":3}',
        f'{{"hashes":["{_HASH}"],"omitted":3}}',
        f'{{"hashes":["{_HASH}"],"omitted":1}}',
        f'{{"hashes":["{_HASH}","{_HASH}"],"omitted":3}}',
        f'{{"hashes":["{_HASH}"],"omitted":{10**30}}}',
        f'{{"hashes":["{_HASH}"],"omitted":{"9" * 5000}}}',
        f'{{"hashes":["{_HASH}"],"omitted":{2**53 - 1}}}',
        f'{{"hashes":["{_HASH}"],"omitted":-1}}',
        f'{{"hashes":["{_HASH}"],"omitted":0}}',
        f'{{"hashes":["{_HASH}"],"omitted":1.0}}',
        f'{{"hashes":["{_HASH}"],"omitted":true}}',
        f'{{"hashes":["{_HASH[:-2]}9="],"omitted":1}}',
        f'{{"hashes":"{_HASH}","omitted":1}}',
        f'{{"omitted":1,"hashes":["{_HASH}"]}}',
        f'{{"hashes":["{_HASH}"],"omitted":1,"x":1}}',
        f'{{"leaf_hash":"{_HASH}"}}',
        f'{{"leaf_hash":"{_HASH}","leaf_hash":"{_HASH}"}}',
        f'{{"leaf_hash":"{_HASH}","omitted":1}}',
        '{"leaf_hash":""}',
        '{"leaf_hash":null}',
        "{}",
        "[]",
        "null",
        "\x00",
        '{"action":"x"}',
    ],
)
def test_a_line_that_is_not_one_is_refused(part: bytes, line: str) -> None:
    """In place of the omitted leaves in the middle, no other line leads to the root."""
    refused(edited(part, lambda lines: lines.__setitem__(6, line.encode() + b"\n")))


def test_two_runs_of_omitted_leaves_are_one(part: bytes) -> None:
    """A file has one form: leaves that are omitted one after the other stand in one line."""
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES[10:13]]
    runs = [
        json.dumps(
            {"hashes": [base64.b64encode(each).decode()], "omitted": 1}, separators=(",", ":")
        )
        for each in hashes
    ]
    split = "\n".join(runs).encode() + b"\n"
    assert "second run" in refused(edited(part, lambda lines: lines.__setitem__(6, split)))


def test_no_body_passes_for_the_inside_of_a_tree(tmp_path: Path) -> None:
    """Omitted leaves can't be passed off as events, nor two events as one that was erased."""
    leaves = bodies(2)
    note = note_of(leaves)
    node = merkle.node_hash(*map(merkle.leaf_hash, leaves))
    file = write(tmp_path / "evidence", leaves, checkpoint=note)
    header = file.partition(b"\n")[0]
    erased = b'{"leaf_hash":"' + base64.b64encode(node) + b'"}\n'
    assert "1 of 2 leaves" in refused(header + b"\n" + erased)


# --- hostile files


@given(st.data())
def test_no_byte_can_be_changed(part: bytes, data: st.DataObject) -> None:
    """Any byte of the file changed, it doesn't hold."""
    place = data.draw(st.integers(0, len(part) - 1))
    value = data.draw(st.integers(0, 255))
    if part[place] != value:
        refused(part[:place] + bytes([value]) + part[place + 1 :])


@pytest.mark.parametrize("flip", [0x01, 0x20])
def test_no_byte_at_all_can_be_changed(tmp_path: Path, flip: int) -> None:
    """One after the other, with a bit flipped, or the case of a letter."""
    file = write(tmp_path / "evidence", LEAVES[:8], [2, 4, 5], erased=[4], old_size=3)
    held = []
    for place in range(len(file)):
        changed = file[:place] + bytes([file[place] ^ flip]) + file[place + 1 :]
        with contextlib.suppress(VerificationError):
            held.append((place, verify(changed)))
    assert held == []


@given(st.data())
def test_no_piece_can_be_cut_out_doubled_or_put_in(part: bytes, data: st.DataObject) -> None:
    """Nor can pieces be removed, repeated or added: it is always a `VerificationError`."""
    start = data.draw(st.integers(0, len(part)))
    end = data.draw(st.integers(start, min(len(part), start + 700)))
    piece = data.draw(st.sampled_from([b"", part[start:end] * 2]) | st.binary(max_size=20))
    file = part[:start] + piece + part[end:]
    if file != part:
        refused(file)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_bytes_raise_anything_else(file: bytes) -> None:
    """Whatever is in a file, it is no evidence, and that is said."""
    refused(file)


class _Endless(io.RawIOBase):
    """A file whose one line never ends, up to 100 MB."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._left = 100_000_000

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece, self._start = self._start[:size], self._start[size:]
        if not piece:
            piece = b"x" * min(size, self._left)
            self._left -= len(piece)
        return piece


@pytest.mark.parametrize("has_header", [True, False])
def test_a_line_without_an_end_is_not_read_to_its_end(whole: bytes, *, has_header: bool) -> None:
    """A line longer than any body is refused as soon as that is known."""
    start = whole.partition(b"\n")[0] + b"\n" if has_header else b""
    tracemalloc.start()
    with pytest.raises(VerificationError, match=f"over {MAX_LINE_BYTES:,} bytes"):
        verify_evidence(_Endless(start), [KEY.verifier])  # type: ignore[arg-type] # reads alike
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
    tracemalloc.stop()


def test_a_body_of_the_greatest_size_holds(tmp_path: Path) -> None:
    """Lines that are longer than what is read at once are put together."""
    large = body(1, details={"text": "x" * 262_000})
    leaves = [body(0), large, body(2)]
    assert verify(write(tmp_path / "evidence", leaves)).events == 3
