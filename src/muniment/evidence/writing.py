"""An evidence file is written: leaf by leaf, and only if it proves what it is to prove."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from muniment.checkpoint import checkpoint_in
from muniment.errors import MunimentError, VerificationError
from muniment.evidence.lines import (
    BODY_START,
    MAX_LINE_BYTES,
    Erased,
    Header,
    Omitted,
    line_of,
    parse_header,
    signers_of,
    subtrees_of,
)
from muniment.merkle import Frontier, verify_consistency
from muniment.merkle import leaf_hash as hash_of


class EvidenceWriter:
    """Writes one evidence file: `with EvidenceWriter(path, ...) as writer:`, then leaf by leaf.

    Every leaf of the tree under the checkpoint is told, in its order: by `event`, `erased` or
    `omitted`. At the end of the block the file is there, whole and durable, if the leaves lead to
    the checkpoint's root; a file of that name is replaced. Otherwise, or if the block raises,
    nothing is left behind.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        tenant_id: str,
        checkpoint: str,
        first_leaf: int,
        leaves: int,
        old_checkpoint: str | None = None,
        consistency: Sequence[bytes] = (),
        filter: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing is written yet. Raises `VerificationError` if the header could not be verified.

        `checkpoint` and `old_checkpoint` are signed notes; `consistency` is the proof between them.
        `first_leaf` is the index of the first leaf told by `event` or `erased`, and `leaves` how
        many there are from there to the last such one, with those omitted between; both are 0 if
        there is none. `filter` says, for people, what was asked for.
        """
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        self._checkpoint = checkpoint_in(checkpoint)
        self._header = line_of(
            Header(
                checkpoint=checkpoint,
                consistency=tuple(consistency),
                filter=dict(filter or {}),
                first_leaf=first_leaf,
                key_ids=signers_of(checkpoint),
                leaves=leaves,
                old_checkpoint=old_checkpoint,
                origin=self._checkpoint.origin,
                tenant_id=tenant_id,
            )
        )
        parse_header(self._header)
        if old_checkpoint is not None:
            old, new = checkpoint_in(old_checkpoint), self._checkpoint
            verify_consistency(
                old.tree_size, new.tree_size, tuple(consistency), old.root_hash, new.root_hash
            )
        self._range = first_leaf, leaves
        self._frontier = Frontier()
        self._first: int | None = None
        self._behind_last = 0
        self._was_omitted = False

    @property
    def next_leaf(self) -> int:
        """The index of the leaf that is to be told next."""
        return self._frontier.size

    def __enter__(self) -> Self:
        with _named(self._path):
            self._file = self._temporary.open("xb")
        self._write(self._header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with suppress(OSError):  # after a full disk, closing fails again
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def event(self, body: bytes, leaf_hash: bytes | None = None) -> None:
        """The next leaf is this body's; with a `leaf_hash`, raises if that isn't its hash."""
        found = hash_of(body)
        if leaf_hash is not None and found != leaf_hash:
            raise VerificationError(f"leaf {self.next_leaf}: the body has not the leaf's hash")
        if not body.startswith(BODY_START) or b"\n" in body or len(body) > MAX_LINE_BYTES:
            raise VerificationError(f"leaf {self.next_leaf}: the body is no event's, or too long")
        self._add(found)
        self._write(body)

    def erased(self, leaf_hash: bytes) -> None:
        """The next leaf has this hash, and its body is not in the file."""
        line = line_of(Erased(leaf_hash=leaf_hash))
        self._add(leaf_hash)
        self._write(line)

    def omitted(self, start: int, end: int, hashes: Sequence[bytes]) -> None:
        """The leaves from `start` up to `end` are not in the file.

        `hashes` are the roots of `merkle.perfect_subtrees(start, end)`. Nothing happens if there
        are no such leaves.
        """
        if start == end:
            return
        run = Omitted(omitted=end - start, hashes=tuple(hashes))
        if start != self.next_leaf:
            raise VerificationError(f"leaf {self.next_leaf} is next, and not leaf {start}")
        if self._was_omitted:
            raise VerificationError("leaves that are omitted one after the other are one run")
        for height, root in subtrees_of(run, start, self._checkpoint.tree_size):
            self._frontier.append(root, height)
        self._was_omitted = True
        self._write(line_of(run))

    def _add(self, leaf_hash: bytes) -> None:
        leaf = self.next_leaf
        if leaf >= self._checkpoint.tree_size:
            raise VerificationError(f"leaf {leaf} is beyond the checkpoint's tree")
        self._frontier.append(leaf_hash)
        self._was_omitted = False
        if self._first is None:
            self._first = leaf
        self._behind_last = leaf + 1

    def _finish(self) -> None:
        """Put the file in its place, if it proves what it says."""
        size, due = self.next_leaf, self._checkpoint.tree_size
        if size != due:
            raise VerificationError(f"the tree has {due} leaves, and {size} of them were told")
        if self._frontier.root() != self._checkpoint.root_hash:
            raise VerificationError(
                "the leaves do not lead to the checkpoint's root: the store holds other events, or "
                "others' hashes, than were signed; run `muniment fsck`"
            )
        first = self._first or 0
        if self._range != (first, self._behind_last - first):
            raise VerificationError(
                f"{self._range[1]} leaves from {self._range[0]} on were announced, and "
                f"{self._behind_last - first} from {first} on told"
            )
        with _named(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _write(self, line: bytes) -> None:
        with _named(self._path):
            self._file.write(line + b"\n")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raises what the operating system refuses as an error that names the file."""
    try:
        yield
    except OSError as error:
        raise MunimentError(f"{path}: can't be written: {error.strerror or error}") from None
