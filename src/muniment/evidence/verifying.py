"""An evidence file is verified: in one pass, without a database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO, Final

import msgspec

from muniment.checkpoint import Checkpoint, NoteSignature, open_checkpoint, open_note
from muniment.errors import VerificationError
from muniment.evidence.bodies import BodyChecker, BodyFault
from muniment.evidence.lines import (
    BODY_START,
    MAX_LINE_BYTES,
    Erased,
    Omitted,
    key_id_of,
    parse_control,
    parse_header,
    subtrees_of,
)
from muniment.keys import KeyKind, VerifyingKey, keys_of_log
from muniment.merkle import Frontier, verify_consistency

_CHUNK_BYTES: Final = 128 * 1024
_sha256 = hashlib.sha256

Progress = Callable[[int, int], None]
"""Told, now and then, how many bytes have been read, and how many events were in them."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a file proves: these events, at these places of a log that these keys signed."""

    origin: str
    tenant_id: str
    tree_size: int
    root_hash: bytes
    signatures: tuple[NoteSignature, ...]
    """Of known keys, all of which hold; at least the log's own."""
    unknown_key_ids: tuple[str, ...]
    """`name+id` of signatures that nobody gave a key for: they show nothing."""
    events: int
    erased: int
    """Leaves whose body is not in the file; their hashes are in the tree."""
    omitted: int
    """Leaves that are not in the file, before, between and behind those that are."""
    omitted_within: int
    """Those of them that lie between leaves of the file."""
    first_leaf: int | None
    last_leaf: int | None
    """Of the leaves in the file; None if there are none."""
    first_occurred_at: datetime | None
    last_occurred_at: datetime | None
    """The earliest and the latest time of the events."""
    consistent_with: tuple[int, ...]
    """The sizes of the older checkpoints that the tree is proved to have grown out of."""
    filter: dict[str, Any]
    """What the exporter says was asked for. Nothing proves that."""


def verify_evidence(
    file: BinaryIO,
    keys: Iterable[VerifyingKey],
    *,
    tenant_id: str | None = None,
    old_checkpoint: str | bytes | None = None,
    progress: Progress | None = None,
) -> Verified:
    """What an evidence file proves. Raises `VerificationError`, with the line, if it doesn't hold.

    `keys` are those of the log, by its own name or by the tenant's (`keys.keys_of_log`), of which
    one must have signed; and of witnesses, each of which must have cosigned. With a `tenant_id`,
    the file must be of that tenant. With an `old_checkpoint`, a note of the same log, the tree must
    have grown out of it. The file is read to its end; memory does not grow with it, but for the
    last million event_ids at most. Raises `InvalidKey` if two keys can't be told apart.
    """
    return _Verification(tuple(keys), tenant_id, old_checkpoint).run(file, progress)


class _Verification:
    """One pass over one file: what has been found so far."""

    def __init__(
        self,
        keys: Sequence[VerifyingKey],
        tenant_id: str | None,
        old_checkpoint: str | bytes | None,
    ) -> None:
        self._keys = keys
        self._tenant_id = tenant_id
        self._given = old_checkpoint
        self._frontier = Frontier()
        self._line = 1
        """The number of the line that is looked at."""
        self._events = self._erased = self._omitted = self._omitted_within = 0
        self._first_leaf: int | None = None
        self._behind_last_leaf = 0
        self._was_omitted = self._is_mixed = False
        self._older: dict[int, bytes] = {}
        """Roots that the tree must have had, by the size at which it had them."""
        self._consistent_with: set[int] = set()

    def run(self, file: BinaryIO, progress: Progress | None) -> Verified:
        """Verify the file, from its first byte to its last."""
        chunks = _chunks(file)
        line, _, rest = self._placed(next, chunks, b"").partition(b"\n")
        self._placed(self._begin, line)
        self._compare_with_given()
        self._line += 1
        done = len(line) + 1
        chunk = rest
        while chunk is not None:
            self._placed(self._take, chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, self._events)
            chunk = self._placed(next, chunks, None)
        return self._end()

    def _placed(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """What a step gives. The error that it raises says where."""
        try:
            return step(*arguments)
        except VerificationError as error:
            leaf = f" (leaf {self._frontier.size})" if self._line > 1 else ""
            raise VerificationError(f"line {self._line}{leaf}: {error}") from None

    # --- the header

    def _begin(self, line: bytes) -> None:
        self._header = header = parse_header(line)
        if self._tenant_id not in {None, header.tenant_id}:
            raise VerificationError(f"is of the tenant {header.tenant_id}, not {self._tenant_id}")
        self._known = keys_of_log(self._keys, header.tenant_id)
        ids = {key_id_of(key.name, key.key_id) for key in self._known}
        if ids.isdisjoint(header.key_ids):
            raise VerificationError(
                f"the checkpoint is signed by {', '.join(header.key_ids)}, none of the keys given"
            )
        self._unknown = tuple(each for each in header.key_ids if each not in ids)
        self._checkpoint = self._open(header.checkpoint)
        self._signatures = open_note(header.checkpoint, self._known).signatures
        self._demand_witnesses()
        self._checker = BodyChecker(header.tenant_id)
        if header.first_leaf + header.leaves > self._checkpoint.tree_size:
            raise VerificationError("first_leaf and leaves go beyond the checkpoint's tree")
        if header.old_checkpoint is not None:
            old, new = self._open(header.old_checkpoint), self._checkpoint
            verify_consistency(
                old.tree_size, new.tree_size, header.consistency, old.root_hash, new.root_hash
            )
            self._older[old.tree_size] = old.root_hash
            self._consistent_with.add(old.tree_size)

    def _demand_witnesses(self) -> None:
        """A cosignature can be stripped off unseen: whoever names a witness asks for its word."""
        signed = {(each.name, each.key_id) for each in self._signatures}
        for key in self._known:
            if key.kind is KeyKind.WITNESS and (key.name, key.key_id) not in signed:
                raise VerificationError(
                    "the checkpoint is not cosigned by the witness "
                    f"{key_id_of(key.name, key.key_id)}, whose key was given"
                )

    def _open(self, note: str | bytes) -> Checkpoint:
        checkpoint = open_checkpoint(note, self._known)
        if checkpoint.origin != self._header.origin:
            raise VerificationError(
                f"the checkpoint is of {checkpoint.origin}, not of {self._header.origin}"
            )
        return checkpoint

    def _compare_with_given(self) -> None:
        """Take the older checkpoint given: the tree will be as large, and must be the same then."""
        if self._given is None:
            return
        try:
            given = self._open(self._given)
        except VerificationError as error:
            raise VerificationError(f"the older checkpoint given: {error}") from None
        new = self._checkpoint
        if given.tree_size > new.tree_size:
            raise VerificationError(
                f"the older checkpoint given has {given.tree_size:,} leaves, and the file's only "
                f"{new.tree_size:,}: the file is the older one, or the log was rolled back"
            )
        known = {**self._older, new.tree_size: new.root_hash}
        if known.get(given.tree_size, given.root_hash) != given.root_hash:
            raise VerificationError(
                f"the older checkpoint given has another root at {given.tree_size:,} leaves than "
                "the file's own: the log was forked"
            )
        self._older[given.tree_size] = given.root_hash
        self._meet()

    # --- the leaves

    def _take(self, chunk: bytes) -> None:
        lines = chunk.split(b"\n")
        lines.pop()
        try:
            if not self._is_mixed and self._checker.check_quickly(chunk, len(lines)):
                self._add_bodies(lines)
                return
            bodies = [line for line in lines if line.startswith(BODY_START)]
            self._is_mixed = len(bodies) < len(lines)
            self._checker.check(bodies)
        except BodyFault as fault:
            self._walk(lines, fault)
        else:
            self._walk(lines, None)

    def _walk(self, lines: Sequence[bytes], fault: BodyFault | None) -> None:
        """Take lines of all kinds, up to the body that is at fault, if one is."""
        waiting: list[bytes] = []
        seen = 0
        for line in lines:
            if line.startswith(BODY_START):
                if fault is not None and fault.number == seen:
                    self._add_bodies(waiting)
                    raise VerificationError(fault.problem)
                seen += 1
                waiting.append(line)
                continue
            self._add_bodies(waiting)
            waiting.clear()
            control = parse_control(line)
            if isinstance(control, Erased):
                self._add([control.leaf_hash])
                self._erased += 1
            else:
                self._omit(control)
            self._line += 1
        self._add_bodies(waiting)

    def _add_bodies(self, bodies: Sequence[bytes]) -> None:
        if bodies:
            self._add([_sha256(b"\0" + body).digest() for body in bodies])
            self._events += len(bodies)
            self._line += len(bodies)

    def _add(self, hashes: list[bytes]) -> None:
        """Add leaves that stand in the file."""
        start, size = self._frontier.size, self._checkpoint.tree_size
        end = start + len(hashes)
        if end > size:
            self._frontier.extend(hashes[: size - start])
            self._line += size - start
            raise VerificationError(f"goes beyond the checkpoint's tree of {size:,} leaves")
        if self._first_leaf is None:
            self._first_leaf = start
        else:
            self._omitted_within += start - self._behind_last_leaf
        self._behind_last_leaf = end
        self._was_omitted = False
        for stop in sorted(each for each in self._older if start < each < end):
            self._frontier.extend(hashes[self._frontier.size - start : stop - start])
            self._meet()
        self._frontier.extend(hashes[self._frontier.size - start :])
        self._meet()

    def _omit(self, omitted: Omitted) -> None:
        if self._was_omitted:
            raise VerificationError("is a second run of omitted leaves; the two are one")
        start = self._frontier.size
        for height, root in subtrees_of(omitted, start, self._checkpoint.tree_size):
            self._frontier.append(root, height)
            self._meet()
        self._omitted += omitted.omitted
        self._was_omitted = True

    def _meet(self) -> None:
        """Compare the tree with an older one, if that was as large."""
        size = self._frontier.size
        root = self._older.get(size)
        if root is None:
            return
        if self._frontier.root() != root:
            raise VerificationError(
                f"the first {size:,} leaves are not those of the older checkpoint: one of them was "
                "edited, removed, added or moved"
            )
        self._consistent_with.add(size)

    def _end(self) -> Verified:
        header, checkpoint, size = self._header, self._checkpoint, self._frontier.size
        if size < checkpoint.tree_size:
            raise VerificationError(
                f"the file ends after {size:,} of {checkpoint.tree_size:,} leaves: it was cut off, "
                "or lines were removed"
            )
        if self._frontier.root() != checkpoint.root_hash:
            raise VerificationError(
                "the lines do not lead to the root of the signed checkpoint: one of them was "
                "edited, removed, added or moved"
            )
        first = self._first_leaf or 0
        leaves = self._behind_last_leaf - first
        if (header.first_leaf, header.leaves) != (first, leaves):
            raise VerificationError(
                f"the header says {header.leaves:,} leaves from leaf {header.first_leaf:,} on, and "
                f"the file has {leaves:,} from {first:,} on"
            )
        unmet = set(self._older) - self._consistent_with
        if unmet:
            raise VerificationError(
                f"the file can't show that the tree grew out of the {min(unmet):,} leaves of the "
                "older checkpoint given: export it again with that checkpoint"
            )
        return Verified(
            origin=header.origin,
            tenant_id=header.tenant_id,
            tree_size=size,
            root_hash=checkpoint.root_hash,
            signatures=self._signatures,
            unknown_key_ids=self._unknown,
            events=self._events,
            erased=self._erased,
            omitted=self._omitted,
            omitted_within=self._omitted_within,
            first_leaf=self._first_leaf,
            last_leaf=None if self._first_leaf is None else self._behind_last_leaf - 1,
            first_occurred_at=self._checker.first_occurred_at,
            last_occurred_at=self._checker.last_occurred_at,
            consistent_with=tuple(sorted(self._consistent_with)),
            filter=header.filter,
        )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file in parts that end where a line ends."""
    rest = b""
    while piece := file.read(_CHUNK_BYTES):
        end = piece.find(b"\n") + 1
        if len(rest) + (end or len(piece) + 1) - 1 > MAX_LINE_BYTES:
            raise VerificationError(f"a line is over {MAX_LINE_BYTES:,} bytes")
        if not end:
            rest += piece
            continue
        cut = piece.rfind(b"\n") + 1
        yield rest + piece[:cut]
        rest = piece[cut:]
    if rest:
        raise VerificationError("the file ends within a line: it was cut off")
