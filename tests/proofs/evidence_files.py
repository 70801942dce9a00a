"""Makes evidence files of made-up logs, in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from muniment import canonical, merkle
from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.event import Actor, Context, Event, Target
from muniment.evidence import EvidenceWriter, Verified, verify_evidence
from muniment.keys import SigningKey, VerifyingKey

KEY = SigningKey.from_seed("example.com/audit", b"1" * 32)
OTHER_KEY = SigningKey.from_seed("example.com/audit", b"2" * 32)
TENANT = "acme"
_NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def body(number: int, *, tenant_id: str = TENANT, **fields: Any) -> bytes:
    """The body of the event of that number; the same one each time."""
    event = Event(
        **{
            "action": "role_assign",
            "tenant_id": tenant_id,
            "occurred_at": _NOON + timedelta(seconds=number, microseconds=number % 7),
            "recorded_at": _NOON + timedelta(seconds=number + 1),
            "idempotency_key": f"k{number}",
            "actor": Actor.agent("a7", on_behalf_of=Actor.user("u1", name="Ann")),
            "targets": (Target("user", f"u{number % 5}"),),
            "context": Context(ip="192.0.2.1"),
            "details": {"n": number, "note": "a\nb", "ratio": 0.5},
            "salt": f"{number:032x}",
            **fields,
        }
    )
    return canonical.encode(event)


def bodies(count: int) -> list[bytes]:
    """The bodies of a log of so many events."""
    return [body(number) for number in range(count)]


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root hash over these bodies."""
    return merkle.root_hash(merkle.leaf_hash(leaf) for leaf in leaves)


def note_of(
    leaves: Sequence[bytes],
    size: int | None = None,
    *,
    key: SigningKey = KEY,
    tenant_id: str = TENANT,
) -> str:
    """A signed checkpoint over the first leaves, or all."""
    signer = key.for_tenant(tenant_id)
    first = leaves[:size]
    checkpoint = Checkpoint(origin=signer.name, tree_size=len(first), root_hash=root_of(first))
    return sign_checkpoint(checkpoint, [signer])


def roots(leaves: Sequence[bytes], start: int, end: int) -> list[bytes]:
    """The roots of the subtrees over leaves that are omitted."""
    roots_of = merkle.roots_of_leaves([merkle.leaf_hash(leaf) for leaf in leaves])
    return list(roots_of(list(merkle.perfect_subtrees(start, end))))


def consistency(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the log grew out of its first leaves."""
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    return merkle.consistency_proof(old_size, len(leaves), merkle.roots_of_leaves(hashes))


def write(
    path: Path,
    leaves: Sequence[bytes],
    shown: Iterable[int] | None = None,
    *,
    erased: Iterable[int] = (),
    old_size: int | None = None,
    **options: Any,
) -> bytes:
    """Write a file that shows some leaves of a log, or all; returns what is in it."""
    chosen = list(range(len(leaves))) if shown is None else list(shown)
    without_body = set(erased)
    if old_size is not None:
        options["old_checkpoint"] = note_of(leaves, old_size)
        options["consistency"] = consistency(leaves, old_size)
    options.setdefault("checkpoint", note_of(leaves))
    first, last = (chosen[0], chosen[-1]) if chosen else (0, -1)
    with EvidenceWriter(
        path, tenant_id=TENANT, first_leaf=first, leaves=last - first + 1, **options
    ) as writer:
        for leaf in chosen:
            gap = writer.next_leaf, leaf
            writer.omitted(*gap, roots(leaves, *gap))
            if leaf in without_body:
                writer.erased(merkle.leaf_hash(leaves[leaf]))
            else:
                writer.event(leaves[leaf])
        gap = writer.next_leaf, len(leaves)
        writer.omitted(*gap, roots(leaves, *gap))
    return path.read_bytes()


def verify(file: bytes, *keys: VerifyingKey, old_checkpoint: str | bytes | None = None) -> Verified:
    """What the file proves, by the log's key if none is named."""
    known = keys or (KEY.verifier,)
    return verify_evidence(io.BytesIO(file), known, old_checkpoint=old_checkpoint)
