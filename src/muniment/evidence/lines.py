"""The lines of an evidence file that are no events, and what each must be.

Which line is which can't be in doubt: a body is canonical JSON of an event, whose first key is
`action`, which no other line has. And what counts as a leaf is the hash that begins with 0x00
(RFC 6962, section 2.1): no line of ours can pass for the inside of a tree, nor the other way round.
"""

from __future__ import annotations

import base64
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from muniment.canonical import MAX_BODY_BYTES, MAX_DETAILS_BYTES, canonical_json
from muniment.checks import check_id
from muniment.errors import InvalidEvent, VerificationError
from muniment.merkle import HASH_BYTES, perfect_subtrees

FORMAT: Final = "muniment/1"
MAX_LINE_BYTES: Final = MAX_BODY_BYTES + MAX_DETAILS_BYTES
"""No line is longer, its newline apart."""
BODY_START: Final = b'{"action":"'

_LineT = TypeVar("_LineT", "Header", "Erased", "Omitted")


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line. Its fields stand in the order of their names, as canonical JSON has them."""

    checkpoint: str
    """The signed note of the checkpoint that all below it is proved against."""
    consistency: tuple[bytes, ...] = ()
    """The proof (RFC 6962, section 2.1.2) that the tree grew out of `old_checkpoint`."""
    evidence: str = msgspec.field(default_factory=lambda: FORMAT)
    filter: dict[str, Any] = {}
    """What the exporter says was asked for; nothing proves that."""
    first_leaf: int
    """The index of the first leaf that stands in the file; 0 if none does."""
    key_ids: tuple[str, ...]
    """Who signed the checkpoint: `name+id` of each signature line, in their order."""
    leaves: int
    """How many leaves there are from the first in the file to the last one."""
    old_checkpoint: str | None = None
    origin: str
    tenant_id: str


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf without its body: the body was erased, or is not disclosed."""

    leaf_hash: bytes


class Omitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run of leaves that are not in the file, and the roots of the subtrees over them."""

    hashes: tuple[bytes, ...]
    omitted: int


_decoders: Final = {kind: msgspec.json.Decoder(kind) for kind in (Header, Erased, Omitted)}


def line_of(value: Header | Erased | Omitted) -> bytes:
    """The value's line, canonical JSON (RFC 8785), without a newline."""
    return canonical_json(msgspec.to_builtins(value, builtin_types=()))


def _decode(line: bytes, kind: type[_LineT], what: str) -> _LineT:
    try:
        value: Any = _decoders[kind].decode(line)
        again = line_of(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise VerificationError(f"is not {what}: {error}") from None
    if again != line:
        raise VerificationError(f"is not {what} in canonical form, or has fields that it has not")
    return value  # type: ignore[no-any-return]


def parse_header(line: bytes) -> Header:
    """The header in the first line. Raises `VerificationError`."""
    if not line:
        raise VerificationError("the file is empty, or its first line is")
    if not line.startswith(b'{"checkpoint":"'):
        raise VerificationError("is not the header of an evidence file (is it compressed?)")
    header = _decode(line, Header, "the header of an evidence file")
    if header.evidence != FORMAT:
        raise VerificationError(f"is of the format {header.evidence!r:.40}, not {FORMAT!r}")
    try:
        check_id("tenant_id", header.tenant_id)
    except InvalidEvent as error:
        raise VerificationError(str(error)) from None
    if header.origin.rpartition("/")[2] != quote(header.tenant_id, safe=""):
        raise VerificationError(f"origin {header.origin} is not of the tenant {header.tenant_id}")
    if header.key_ids != signers_of(header.checkpoint):
        raise VerificationError("key_ids are not those of the checkpoint's signatures")
    if header.first_leaf < 0 or header.leaves < 0 or (header.first_leaf and not header.leaves):
        raise VerificationError("first_leaf and leaves are no range")
    _check_hashes(header.consistency)
    if header.consistency and header.old_checkpoint is None:
        raise VerificationError("has a consistency proof, and no old_checkpoint")
    return header


def parse_control(line: bytes) -> Erased | Omitted:
    """The line of a leaf without a body, or of omitted leaves. Raises `VerificationError`."""
    if line.startswith(b'{"leaf_hash":'):
        erased = _decode(line, Erased, "a leaf hash")
        _check_hashes([erased.leaf_hash])
        return erased
    if line.startswith(b'{"hashes":'):
        omitted = _decode(line, Omitted, "a run of omitted leaves")
        _check_hashes(omitted.hashes)
        return omitted
    raise VerificationError("is none of an event, a leaf hash and a run of omitted leaves")


def subtrees_of(omitted: Omitted, start: int, tree_size: int) -> list[tuple[int, bytes]]:
    """The height and the root of each perfect subtree over a run of omitted leaves.

    Raises `VerificationError` where such a run can't stand.
    """
    if omitted.omitted < 1:
        raise VerificationError(f"omits {omitted.omitted} leaves; a run has one or more")
    if omitted.omitted > tree_size - start:
        raise VerificationError(
            f"omits {omitted.omitted} leaves; the checkpoint has only {tree_size - start} more"
        )
    heights = [height for height, _ in perfect_subtrees(start, start + omitted.omitted)]
    if len(heights) != len(omitted.hashes):
        raise VerificationError(f"has {len(omitted.hashes)} hashes, not the {len(heights)} due")
    return list(zip(heights, omitted.hashes, strict=True))


def signers_of(note: str) -> tuple[str, ...]:
    """`name+id` of each signature line of a note, whether or not the signature holds."""
    found = []
    for line in note.rpartition("\n\n")[2].removesuffix("\n").split("\n"):
        _, _, signed = line.partition(" ")
        name, _, encoded = signed.partition(" ")
        try:
            key_id = base64.b64decode(encoded)[:4]
        except ValueError:
            raise VerificationError("the checkpoint's signature lines are none") from None
        found.append(key_id_of(name, key_id))
    return tuple(found)


def key_id_of(name: str, key_id: bytes) -> str:
    """How a key is named here: as its vkey (c2sp.org/signed-note) begins."""
    return f"{name}+{key_id.hex()}"


def _check_hashes(hashes: Any) -> None:
    for each in hashes:
        if len(each) != HASH_BYTES:
            raise VerificationError(f"has a hash of {len(each)} bytes, not {HASH_BYTES}")
