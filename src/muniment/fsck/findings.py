"""What fsck finds, and what it has looked at."""

from __future__ import annotations

import enum
from uuid import UUID

import msgspec


class FindingKind(enum.StrEnum):
    """What is wrong."""

    BODY = "body"
    """An event's body is not the one that its leaf stands for."""
    COLUMN = "column"
    """A column beside the body says something else than the body, which is as it was."""
    FORM = "form"
    """A body is as it was, but no event of muniment's: whoever recorded it was another program."""
    MISSING = "missing"
    """A leaf's event is gone."""
    NO_LEAF = "no leaf"
    """An event has no leaf, though what was recorded after it has: it was slipped in."""
    MOVED = "moved"
    """A tenant's event stands under another tenant."""
    ORDER = "order"
    """An event stands elsewhere in the order of recording than its leaf."""
    TREE = "tree"
    """What is kept of a tree is not what its leaves make of it."""
    CHECKPOINT = "checkpoint"
    """A checkpoint is not that of its tree, not the one that was signed, or gone."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `message` is plain words, and names the event if it is about one."""

    kind: FindingKind
    tenant_id: str
    message: str
    event_id: str | None = None
    leaf_index: int | None = None
    tree_size: int | None = None


class Summary(msgspec.Struct, kw_only=True):
    """What was looked at, and how many differences there are."""

    tenants: int = 0
    """Those that have a tree."""
    events: int = 0
    """Those that must have a leaf, whether or not they have."""
    erased: int = 0
    """Events whose body was erased; their leaves are as they were."""
    pending: int = 0
    """Events that wait for a leaf, or got one after fsck began."""
    leaves: int = 0
    """Leaves over which trees were built anew."""
    checkpoints: int = 0
    signatures: int = 0
    """Checkpoints whose signature by a key that was given holds."""
    findings: int = 0


def event_id_text(event_id: bytes) -> str:
    """The event_id as it is written; of what is none, its hexadecimal digits."""
    return str(UUID(bytes=event_id)) if len(event_id) == 16 else event_id.hex()
