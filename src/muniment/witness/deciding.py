"""Whether a checkpoint is cosigned: the order of the checks is that of c2sp.org/tlog-witness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from muniment.anchors.add_checkpoint import SIZE_TYPE, AddCheckpoint, parse_request
from muniment.anchors.origins import keys_for
from muniment.checkpoint import (
    Checkpoint,
    add_signatures,
    checkpoint_in,
    cosign,
    cosignatures,
    open_checkpoint,
    text_of,
)
from muniment.errors import InvalidKey, VerificationError
from muniment.keys import KeyKind, SigningKey, VerifyingKey, from_base64
from muniment.merkle import EMPTY_ROOT, verify_consistency
from muniment.witness.ledger import Ledger, Seen

_TEXT: Final = "text/plain"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the witness says to a request. `reason` and the fields below are for its own log."""

    code: int
    body: str
    media_type: str = _TEXT
    reason: str
    origin: str | None = None
    old_size: int | None = None
    tree_size: int | None = None


class Witness:
    """Cosigns checkpoints of the logs of `trusted` keys, whose tenants' logs it knows with them.

    Keys in `trusted_only` vouch for the one origin that is their name, and none below it. `ledger`
    is what it remembers; `clock` gives Unix seconds. Raises `InvalidKey` for a key that is no
    witness's, or where a trusted one is.
    """

    def __init__(
        self,
        key: SigningKey,
        trusted: Iterable[VerifyingKey],
        ledger: Ledger,
        *,
        trusted_only: Iterable[VerifyingKey] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        if key.kind is not KeyKind.WITNESS:
            raise InvalidKey(f"{key.name} is a log's key; make one with `keygen --witness`")
        self._key = key
        self._trusted = tuple(trusted)
        self._trusted_only = tuple(trusted_only)
        for each in (*self._trusted, *self._trusted_only):
            if each.kind is not KeyKind.LOG:
                raise InvalidKey(f"{each.name} is a witness's key; trust the key of a log")
        self._ledger = ledger
        self._clock = clock

    @property
    def remembered(self) -> int:
        """Of how many logs a checkpoint is remembered."""
        return self._ledger.count()

    def add_checkpoint(self, body: bytes) -> Answer:
        """What to answer to the body of an `add-checkpoint`. It waits for the disk; any thread may.

        If it cosigns, the checkpoint is durably remembered before it returns. Raises `StoreError`
        if the ledger can't be read or written.
        """
        try:
            request = parse_request(body)
            cosignatures(request.note, ())  # that it is a note, whoever signed it
            claimed = checkpoint_in(request.note)
        except VerificationError as error:
            return Answer(code=400, body=f"{error}\n", reason=str(error))
        keys = self._keys_for(claimed.origin)
        if not keys:
            return _refusal(404, "the log is not known", request, claimed)
        try:
            open_checkpoint(request.note, keys, origin=claimed.origin)
        except VerificationError as error:
            return _refusal(403, str(error), request, claimed)
        # What is kept and shown has no signatures but those that were verified just now.
        signed = _only_signed_by(keys, request.note)
        return self._decide(msgspec.structs.replace(request, note=signed), claimed)

    def _keys_for(self, origin: str) -> tuple[VerifyingKey, ...]:
        exact = [key for key in self._trusted_only if key.name == origin]
        return tuple(dict.fromkeys([*keys_for(origin, self._trusted), *exact]))

    def _decide(self, request: AddCheckpoint, checkpoint: Checkpoint) -> Answer:
        if request.old_size > checkpoint.tree_size:
            return _refusal(400, "the old size is above the new one", request, checkpoint)
        seen = self._ledger.latest(checkpoint.origin)
        if request.old_size != (seen.tree_size if seen else 0):
            return _conflict(seen, request, checkpoint)
        try:
            verify_consistency(
                request.old_size,
                checkpoint.tree_size,
                request.proof,
                seen.root_hash if seen else EMPTY_ROOT,
                checkpoint.root_hash,
            )
        except VerificationError as error:
            self._ledger.keep_refused(
                checkpoint.origin, checkpoint.tree_size, checkpoint.root_hash, request.note
            )
            return _refusal(422, str(error), request, checkpoint)
        line = cosign(text_of(request.note), self._key, int(self._clock()))
        now = Seen(
            tree_size=checkpoint.tree_size,
            root_hash=checkpoint.root_hash,
            note=add_signatures(request.note, [line]),
        )
        if not self._ledger.replace(checkpoint.origin, seen, now):
            # Another request was first; its checkpoint is the one to go on from.
            return _conflict(self._ledger.latest(checkpoint.origin), request, checkpoint)
        # On disk now: the new checkpoint. After a crash here the log learns of it by a 409, and
        # asks for the cosignature again, with its own size as the old one.
        return _answer(200, "cosigned", line, request, checkpoint)

    def checkpoint(self, hashed_origin: str) -> str | None:
        """The last checkpoint that was cosigned, as a note, by the SHA-256 of its log's origin."""
        seen = self._ledger.by_hash(hashed_origin)
        return seen.note if seen else None


def _conflict(seen: Seen | None, request: AddCheckpoint, checkpoint: Checkpoint) -> Answer:
    size = seen.tree_size if seen else 0
    answer = _answer(409, f"the last one has {size} leaves", f"{size}\n", request, checkpoint)
    return msgspec.structs.replace(answer, media_type=SIZE_TYPE)


def _refusal(code: int, reason: str, request: AddCheckpoint, checkpoint: Checkpoint) -> Answer:
    return _answer(code, reason, f"{reason}\n", request, checkpoint)


def _answer(
    code: int, reason: str, body: str, request: AddCheckpoint, checkpoint: Checkpoint
) -> Answer:
    return Answer(
        code=code,
        body=body,
        reason=reason,
        origin=checkpoint.origin,
        old_size=request.old_size,
        tree_size=checkpoint.tree_size,
    )


def _only_signed_by(keys: Iterable[VerifyingKey], note: str) -> str:
    """The note without the signature lines of others."""
    text = text_of(note)
    known = {(key.name, key.key_id) for key in keys}
    lines = note[len(text) + 1 :].splitlines(keepends=True)
    return "".join([text, "\n", *(line for line in lines if _signer(line) in known)])


def _signer(line: str) -> tuple[str, bytes]:
    """Name and key id of a signature line, which is one already."""
    _, name, encoded = line.removesuffix("\n").split(" ")
    return name, (from_base64(encoded) or b"")[:4]
