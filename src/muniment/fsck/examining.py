"""One event by itself: whether its body is an event's, and every column says what the body says."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from muniment.canonical import decode, encode
from muniment.errors import InvalidEvent
from muniment.event import Event
from muniment.fsck.findings import Finding, FindingKind, event_id_text
from muniment.merkle import leaf_hash
from muniment.query import index_terms
from muniment.stores.trees import Inspected


class Examined(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is to be known of an event once its body is out of hand.

    `body_hash` is the leaf hash of its body, None if that was erased. `columns` are those that say
    something else than the body, with what it says; `form` is why the body is no event's.
    """

    position: str
    tenant_id: str
    event_id: bytes
    leaf_hash: bytes
    body_hash: bytes | None
    columns: tuple[str, ...] = ()
    form: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is to be said of it if its leaf_hash column is that of its leaf."""
        is_own = self.body_hash is None or self.body_hash == self.leaf_hash
        return is_own and not self.columns and self.form is None


def examine(rows: Sequence[Inspected]) -> list[Examined]:
    """Each event, hashed and compared with its own body."""
    return [_examine(row) for row in rows]


def _examine(row: Inspected) -> Examined:
    body = row.body
    columns: list[str] = []
    form = None
    if body is not None:
        try:
            event = decode(body)
            if event.tenant_id != row.tenant_id:
                columns.append(f"tenant_id says {row.tenant_id!r}, the body {event.tenant_id!r}")
            if event.event_id != event_id_text(row.event_id):
                columns.append(f"event_id: the body says {event.event_id}")
            if row.terms not in _terms_of(event):
                columns.append("terms: it would be found under others than its body has")
            if encode(event, max_details_bytes=sys.maxsize) != body:
                form = "its body is not canonical (RFC 8785)"
        except InvalidEvent as error:
            form = f"its body is no event: {error}"
    return Examined(
        row.position,
        row.tenant_id,
        row.event_id,
        row.leaf_hash,
        None if body is None else leaf_hash(body),
        tuple(columns),
        form,
    )


def _terms_of(event: Event) -> tuple[bytes, ...]:
    """The terms an event should have, and those that it got before sessions had one."""
    terms = index_terms(event)
    session_id = event.context.session_id
    older = terms if session_id is None else terms.removesuffix(f"session:{session_id}\x1f")
    return terms.encode(), older.encode()


def judge(event: Examined, leaf: bytes | None, leaf_index: int | None) -> list[Finding]:
    """What is wrong with an event whose leaf is known; or of which only its column tells a hash."""
    expected = event.leaf_hash if leaf is None else leaf
    where = "leaf_hash column" if leaf is None else f"leaf {leaf_index}"

    def finding(kind: FindingKind, problem: str) -> Finding:
        return Finding(
            kind=kind,
            tenant_id=event.tenant_id,
            message=f"event {event_id_text(event.event_id)}: {problem}",
            event_id=event_id_text(event.event_id),
            leaf_index=leaf_index,
        )

    found = []
    if event.body_hash not in (None, expected):
        both = event.body_hash == event.leaf_hash
        what = "its body and its leaf_hash column were" if both else "its body was"
        problem = f"{what} edited; {where} stands for another body"
        if event.columns:
            problem += f" ({'; '.join(event.columns)})"
        found.append(finding(FindingKind.BODY, problem))
        if not both and event.leaf_hash != expected:
            found.append(finding(FindingKind.COLUMN, "its leaf_hash column was edited too"))
        return found
    if event.leaf_hash != expected:
        found.append(
            finding(FindingKind.COLUMN, f"its leaf_hash column was edited; it is not {where}'s")
        )
    # The body is the one that was recorded, so it is the column that is not.
    found += [
        finding(FindingKind.COLUMN, f"a column was edited, the body was not: {column}")
        for column in event.columns
    ]
    if event.form is not None:
        found.append(finding(FindingKind.FORM, f"{event.form}, and was recorded so"))
    return found
