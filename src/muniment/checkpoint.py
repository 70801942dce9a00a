"""Signed notes and checkpoints: the few lines that a tenant's whole trail is held to.

Text and signatures are those of c2sp.org/signed-note, c2sp.org/tlog-checkpoint and
c2sp.org/tlog-cosignature. Whatever is wrong with what is read is a `VerificationError`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from muniment.errors import InvalidKey, VerificationError
from muniment.keys import (
    KeyKind,
    SigningKey,
    VerifyingKey,
    cosignature_time,
    from_base64,
    is_key_name,
)

MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
_HASH_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_START_OF_SIGNATURE: Final = "\u2014 "
_LARGEST_TREE: Final = 2**63 - 1
_is_tree_size = re.compile(r"0|[1-9][0-9]{0,18}").fullmatch
_has_control = re.compile(r"[\x00-\x09\x0b-\x1f]").search


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of itself at one size (tlog-checkpoint, "Note text")."""

    origin: str
    """Which log: for a tenant's, the name of the key that signs it."""
    tree_size: int
    root_hash: bytes
    extensions: tuple[str, ...] = ()
    """Further lines, which muniment neither writes nor reads."""


class NoteSignature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that holds, and whose it is."""

    name: str
    key_id: bytes
    seconds: int | None = None
    """When a witness cosigned, in Unix seconds by its own clock; None for a log's signature."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A text and the signatures of known keys on it, all of which hold; at least one does."""

    text: str
    signatures: tuple[NoteSignature, ...]


class _Line(NamedTuple):
    name: str
    key_id: bytes
    signature: bytes
    text: str

    @property
    def key(self) -> tuple[str, bytes]:
        return self.name, self.key_id


def sign_note(text: str, keys: Sequence[SigningKey]) -> str:
    """The text with a signature of each key below it (signed-note, "Format").

    The text ends in a newline and has no other control character, or it raises
    `VerificationError`. Raises `InvalidKey` without a key, or with a witness's.
    """
    _check_text(text)
    if not keys:
        raise InvalidKey("no key to sign with; make one with `muniment keygen`")
    lines = [_signature_line(key, key.sign(text.encode())) for key in dict.fromkeys(keys)]
    return _joined(text, lines)


def open_note(note: str | bytes, known_keys: Iterable[VerifyingKey]) -> Note:
    """The text of a note that a known key signed, and who signed (signed-note, "Signatures").

    Signatures of unknown keys are ignored, even under a known name. Raises `VerificationError` if
    no known key signed, or if any signature of a known key does not hold. A key that signed twice
    is listed once; a witness, with its latest time.
    """
    text, lines = _taken_apart(note)
    signatures = _verified(text, lines, known_keys)
    if not signatures:
        raise VerificationError("the note bears no signature of a known key")
    return Note(text=text, signatures=signatures)


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """The text that is signed, with its final newline. Raises `VerificationError`.

    What it gives, `parse_checkpoint` reads again as the same checkpoint.
    """
    if not 0 <= checkpoint.tree_size <= _LARGEST_TREE:
        raise VerificationError("the checkpoint's tree size is not from 0 to 2^63 - 1")
    root_hash = base64.b64encode(checkpoint.root_hash).decode()
    lines = (checkpoint.origin, str(checkpoint.tree_size), root_hash, *checkpoint.extensions)
    text = "".join(f"{line}\n" for line in lines)
    _check_text(text)
    if parse_checkpoint(text) != checkpoint:
        raise VerificationError("the checkpoint can't be written: a line of it has a line break")
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text; whoever wrote it. Raises `VerificationError`."""
    _check_text(text)
    # Not `splitlines`, which splits at more than newlines.
    origin, *more = text[:-1].split("\n")
    if len(more) < 2:
        raise VerificationError("the checkpoint has fewer lines than origin, tree size, root hash")
    size, encoded, *extensions = more
    if not origin:
        raise VerificationError("the checkpoint's origin is empty")
    if not _is_tree_size(size) or int(size) > _LARGEST_TREE:
        raise VerificationError(
            "the checkpoint's tree size is no decimal without leading zeros, up to 2^63 - 1"
        )
    root_hash = from_base64(encoded)
    if root_hash is None or len(root_hash) != _HASH_BYTES:
        raise VerificationError("the checkpoint's root hash is no base64 of 32 bytes")
    if not all(extensions):
        raise VerificationError("the checkpoint has an empty extension line")
    return Checkpoint(
        origin=origin, tree_size=int(size), root_hash=root_hash, extensions=tuple(extensions)
    )


def text_of(note: str) -> str:
    """The text of a note, which is what is signed; the signatures below it may grow."""
    return note[: note.rfind("\n\n") + 1]


def checkpoint_in(note: str) -> Checkpoint:
    """The checkpoint in a note, whose signatures nobody verified. Raises `VerificationError`."""
    return parse_checkpoint(text_of(note))


def sign_checkpoint(checkpoint: Checkpoint, keys: Sequence[SigningKey]) -> str:
    """The checkpoint as a note that all keys signed.

    A log's keys bear its origin as their name: raises `InvalidKey` for others.
    """
    for key in keys:
        if key.name != checkpoint.origin:
            raise InvalidKey(f"{key.name} is not the key of {checkpoint.origin}, and won't sign it")
    return sign_note(checkpoint_text(checkpoint), keys)


def open_checkpoint(
    note: str | bytes, known_keys: Iterable[VerifyingKey], *, origin: str | None = None
) -> Checkpoint:
    """The checkpoint in a note that a known key of a log signed. Raises `VerificationError`.

    It must be of the log `origin`; without one, of a log that a key which signed is named after.
    One of the two is needed: tenants' keys share a seed, so that a signature under one name holds
    under another too, and only the origin tells the logs apart. A witness alone is not enough.
    """
    known = tuple(known_keys)
    opened = open_note(note, known)
    checkpoint = parse_checkpoint(opened.text)
    logs = {s.name for s in opened.signatures if s.seconds is None}
    if not logs:
        raise VerificationError("the checkpoint bears no signature of a log's known key")
    if origin is not None and checkpoint.origin != origin:
        raise VerificationError(f"the checkpoint is of {checkpoint.origin}, not of {origin}")
    if origin is None and checkpoint.origin not in logs:
        raise VerificationError(
            f"the checkpoint is of {checkpoint.origin}, and signed by {', '.join(sorted(logs))}"
        )
    return checkpoint


def cosign(text: str, key: SigningKey, when_seconds: int) -> str:
    """A witness's signature line on a checkpoint's text (tlog-cosignature), with its newline.

    `when_seconds` is the witness's Unix time. Whoever cosigns has checked the consistency with what
    it cosigned before. Raises `VerificationError` if the text is no checkpoint, `InvalidKey` if the
    key is no witness's.
    """
    parse_checkpoint(text)
    return _signature_line(key, key.cosign(text.encode(), when_seconds))


def add_signatures(note: str | bytes, lines: Iterable[str]) -> str:
    """The note with more signature lines at its end; what it has stays as it is, byte for byte.

    A key that signed the note already keeps its signature, and a line of it is left out. Nothing is
    verified here: a line of a known key that doesn't hold spoils the note, so check it before.
    Raises `VerificationError` for what is no note, or no signature line.
    """
    text, signed = _taken_apart(note)
    there = {line.key for line in signed}
    merged = [line.text for line in signed]
    for given in lines:
        line = _parse_line(given.removesuffix("\n"))
        if line.key not in there:
            there.add(line.key)
            merged.append(line.text)
    return _joined(text, merged)


def cosignatures(note: str | bytes, witnesses: Iterable[VerifyingKey]) -> list[tuple[str, int]]:
    """The witnesses, by name, that cosigned the checkpoint, each with its latest Unix time.

    None may have. Raises `VerificationError` if the note is none, its text no checkpoint, or a
    signature of a given key doesn't hold.
    """
    text, lines = _taken_apart(note)
    parse_checkpoint(text)
    found = _verified(text, lines, witnesses)
    return [(s.name, s.seconds) for s in found if s.seconds is not None]


def _verified(
    text: str, lines: Iterable[_Line], known_keys: Iterable[VerifyingKey]
) -> tuple[NoteSignature, ...]:
    known: dict[tuple[str, bytes], VerifyingKey] = {}
    for key in known_keys:
        # Two keys under one name and id: no line says which is meant.
        if known.setdefault((key.name, key.key_id), key) != key:
            raise InvalidKey(f"two known keys have the name {key.name} and the same id; drop one")
    message = text.encode()
    found: dict[tuple[str, bytes], NoteSignature] = {}
    for line in lines:
        signer = known.get(line.key)
        if signer is None:
            continue
        if not signer.verify(message, line.signature):
            raise VerificationError(f"the signature of {line.name} does not hold")
        seconds = cosignature_time(line.signature) if signer.kind is KeyKind.WITNESS else None
        before = found.get(line.key)
        if before is None or (seconds or 0) > (before.seconds or 0):
            found[line.key] = NoteSignature(name=line.name, key_id=line.key_id, seconds=seconds)
    return tuple(found.values())


def _taken_apart(note: str | bytes) -> tuple[str, list[_Line]]:
    """A note's text and its signature lines, none of them verified."""
    whole = _as_text(note)
    # The text may have empty lines: the last one separates it from the signatures.
    end = whole.rfind("\n\n") + 1
    if not end:
        raise VerificationError("the note has no empty line between its text and signatures")
    text, signed = whole[:end], whole[end + 1 :]
    if not signed.endswith("\n"):
        raise VerificationError("the note doesn't end in a signature line and its newline")
    lines = signed[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise VerificationError(f"the note has over {MAX_SIGNATURES} signatures")
    return text, [_parse_line(line) for line in lines]


def _parse_line(line: str) -> _Line:
    name, space, encoded = line.removeprefix(_START_OF_SIGNATURE).partition(" ")
    signature = from_base64(encoded)
    is_line = line.startswith(_START_OF_SIGNATURE) and space and is_key_name(name)
    if not is_line or signature is None or len(signature) <= _KEY_ID_BYTES:
        raise VerificationError("a signature line isn't a dash, a name, and base64 of id and bytes")
    return _Line(name, signature[:_KEY_ID_BYTES], signature[_KEY_ID_BYTES:], line)


def _signature_line(key: SigningKey, signature: bytes) -> str:
    encoded = base64.b64encode(key.verifier.key_id + signature).decode()
    return f"{_START_OF_SIGNATURE}{key.name} {encoded}\n"


def _joined(text: str, lines: Sequence[str]) -> str:
    """The note, if it is one that `open_note` would read."""
    note = f"{text}\n" + "".join(f"{line.removesuffix(chr(10))}\n" for line in lines)
    _taken_apart(note)
    return note


def _as_text(note: str | bytes) -> str:
    text = None
    if len(note) <= MAX_NOTE_BYTES:
        try:
            text = note.decode() if isinstance(note, bytes) else note
            size = len(text.encode())
        except UnicodeError:
            raise VerificationError("the note is no UTF-8") from None
    if text is None or size > MAX_NOTE_BYTES:
        raise VerificationError(f"the note is over {MAX_NOTE_BYTES:,} bytes")
    if _has_control(text):
        raise VerificationError("the note has a control character")
    return text


def _check_text(text: str) -> None:
    if not _as_text(text).endswith("\n"):
        raise VerificationError("the note's text doesn't end in a newline")
