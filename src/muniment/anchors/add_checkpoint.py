"""What a log says to a witness: the body of `add-checkpoint` (c2sp.org/tlog-witness)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from muniment.errors import VerificationError
from muniment.keys import from_base64
from muniment.merkle import HASH_BYTES

PATH: Final = "add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
"""The media type of a refusal that says which size the witness has."""
MAX_PROOF_LINES: Final = 63
_LARGEST_TREE: Final = 2**63 - 1
_is_size = re.compile(rb"0|[1-9][0-9]{0,18}").fullmatch


class AddCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint to be cosigned, and the proof that its tree grew out of the last one's."""

    old_size: int
    proof: tuple[bytes, ...]
    """32 bytes each (RFC 6962, section 2.1.2)."""
    note: str


def request_body(old_size: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of the request, as the witness reads it."""
    lines = [f"old {old_size}", *(base64.b64encode(each).decode() for each in proof), "", note]
    return "\n".join(lines).encode()


def parse_request(body: bytes) -> AddCheckpoint:
    """What a body says. Raises `VerificationError` for whatever isn't one; the note is not read."""
    head, empty_line, note = body.partition(b"\n\n")
    if not empty_line:
        raise VerificationError("no empty line between the proof and the checkpoint")
    # So many are too many, and the rest of a hostile body is not taken apart.
    first, *lines = head.split(b"\n", MAX_PROOF_LINES + 1)
    word, space, size = first.partition(b" ")
    old_size = parse_size(size)
    if word != b"old" or not space or old_size is None:
        raise VerificationError("the first line isn't `old` and a tree size")
    if len(lines) > MAX_PROOF_LINES:
        raise VerificationError(f"over {MAX_PROOF_LINES} proof lines")
    try:
        proof = [from_base64(line.decode("ascii")) for line in lines]
        text = note.decode()
    except UnicodeDecodeError:
        raise VerificationError("not UTF-8, or a proof line not ASCII") from None
    hashes = tuple(each for each in proof if each is not None and len(each) == HASH_BYTES)
    if len(hashes) != len(lines):
        raise VerificationError(f"a proof line is no base64 of {HASH_BYTES} bytes")
    return AddCheckpoint(old_size=old_size, proof=hashes, note=text)


def parse_size(text: bytes) -> int | None:
    """A tree size: ASCII decimal without leading zeros, up to 2^63 - 1; None for anything else."""
    if not _is_size(text) or int(text) > _LARGEST_TREE:
        return None
    return int(text)
