"""Proofs that stand on their own: one event is in a tree, or one tree grew out of another.

An inclusion proof is written as C2SP tlog-proof text, with the signed checkpoint it leads to.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final, Self
from urllib.parse import quote

import msgspec

from muniment.checkpoint import Checkpoint, open_checkpoint
from muniment.errors import VerificationError
from muniment.keys import VerifyingKey, from_base64
from muniment.merkle import HASH_BYTES, leaf_hash, verify_consistency, verify_inclusion

HEADING: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES: Final = 1_100_000
_MOST_HASHES: Final = 63


class InclusionProof(msgspec.Struct, frozen=True, kw_only=True):
    """Proves that a leaf is in the tree under a signed checkpoint.

    `hashes` are 32 bytes each, lowest first (RFC 6962, section 2.1.1); `checkpoint` is the note.
    """

    leaf_index: int
    hashes: tuple[bytes, ...]
    checkpoint: str

    def text(self) -> str:
        """The proof as C2SP tlog-proof text; of a million leaves it takes about 1.1 KB."""
        lines = [HEADING, f"index {self.leaf_index}"]
        lines += [base64.b64encode(each).decode() for each in self.hashes]
        return "\n".join([*lines, "", self.checkpoint])

    @classmethod
    def parse(cls, text: str) -> Self:
        """The proof in a tlog-proof text. Raises `VerificationError`."""
        if len(text) > MAX_PROOF_BYTES:
            raise VerificationError(f"the proof is over {MAX_PROOF_BYTES} characters")
        head, gap, note = text.partition("\n\n")
        heading, *lines = head.split("\n")
        if heading != HEADING or not gap:
            raise VerificationError(f"this is no proof: it must begin with {HEADING}")
        if lines and lines[0].startswith("extra "):
            lines = lines[1:]  # tlog-proof leaves it to the application, and ours gives none
        if not lines or not lines[0].startswith("index "):
            raise VerificationError("the proof has no line that gives its leaf index")
        hashes = lines[1:]
        if len(hashes) > _MOST_HASHES:
            raise VerificationError(f"the proof has over {_MOST_HASHES} hashes")
        return cls(
            leaf_index=_number(lines[0].removeprefix("index ")),
            hashes=tuple(_hash(line) for line in hashes),
            checkpoint=note,
        )

    def verify(
        self, body: bytes, known_keys: Iterable[VerifyingKey], *, origin: str | None = None
    ) -> Checkpoint:
        """The checkpoint that vouches for this event's body. Raises `VerificationError`.

        `known_keys` are those of the tenant's log (`keys.keys_of_log`). Without an `origin`, the
        checkpoint must be of a log of the tenant that the body names.
        """
        checkpoint = self.verify_leaf(leaf_hash(body), known_keys, origin=origin)
        if origin is None:
            tenant_id = _tenant_of(body)
            if checkpoint.origin.rpartition("/")[2] != quote(tenant_id, safe=""):
                raise VerificationError(
                    f"the checkpoint is of {checkpoint.origin}, and the event of tenant {tenant_id}"
                )
        return checkpoint

    def verify_leaf(
        self, leaf: bytes, known_keys: Iterable[VerifyingKey], *, origin: str | None = None
    ) -> Checkpoint:
        """As `verify`, for an event of which only the leaf hash is at hand: it may be erased.

        Nothing tells its tenant but the keys: they must be those of one tenant's log.
        """
        checkpoint = open_checkpoint(self.checkpoint, known_keys, origin=origin)
        verify_inclusion(
            self.leaf_index, checkpoint.tree_size, leaf, self.hashes, checkpoint.root_hash
        )
        return checkpoint


class ConsistencyProof(msgspec.Struct, frozen=True, kw_only=True):
    """Proves that a tree grew out of an older one: nothing in it was changed, removed or reordered.

    `hashes` are 32 bytes each (RFC 6962, section 2.1.2).
    """

    old_size: int
    new_size: int
    hashes: tuple[bytes, ...]

    def verify(self, old_root: bytes, new_root: bytes) -> None:
        """Raise `VerificationError` unless the newer root hash holds the older tree."""
        verify_consistency(self.old_size, self.new_size, self.hashes, old_root, new_root)


class _OfTenant(msgspec.Struct):
    tenant_id: str


_decode_tenant = msgspec.json.Decoder(_OfTenant).decode


def _tenant_of(body: bytes) -> str:
    """The tenant that a body names; the rest of it is not looked at."""
    try:
        return _decode_tenant(body).tenant_id
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise VerificationError(f"the body is no event's: {error}") from None


def _number(digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 19:
        raise VerificationError("the proof's leaf index is no number")
    if digits != str(int(digits)):
        raise VerificationError("the proof's leaf index begins with zeros")
    return int(digits)


def _hash(line: str) -> bytes:
    found = from_base64(line)
    if found is None or len(found) != HASH_BYTES:
        raise VerificationError("the proof has a line that is no base64 of 32 bytes")
    return found
