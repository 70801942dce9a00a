"""What the page of an event shows, before any word of it is chosen."""

from __future__ import annotations

from typing import Final

import msgspec

from muniment import filter_language
from muniment.actions import ActionInfo, Catalogue
from muniment.event import Actor, Event
from muniment.http.viewer.differences import Difference, difference_of
from muniment.http.viewer.json_tree import Tree, tree_of

_SHOWN_TARGETS: Final = 50
_SHOWN_CHANGES: Final = 50
_CHARACTERS_OF_CHANGES: Final = 40_000


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of the event: `query` finds the events that share it, in the filter language."""

    name: str
    value: str
    query: str | None = None
    is_code: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that answer one question."""

    name: str
    fields: tuple[Field, ...]


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One of a chain of actors: whoever acts, then whom it acts for."""

    actor: Actor
    query: str


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """A target, and what finds the events about it."""

    type: str
    id: str
    name: str | None
    query: str


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """An event, parted as its page shows it; `more_…` count what is left out."""

    event: Event
    action: ActionInfo
    chain: tuple[Link, ...]
    targets: tuple[TargetView, ...]
    more_targets: int
    changes: tuple[Difference, ...]
    more_changes: int
    details: Tree
    groups: tuple[Group, ...]
    is_cut: bool


def view_of(event: Event, catalogue: Catalogue, *, whole: bool = False) -> EventView:
    """The view of an event; unless `whole`, without what would take long to show."""
    most_targets = None if whole else _SHOWN_TARGETS
    most_changes = None if whole else _SHOWN_CHANGES
    details = tree_of(event.details, whole=whole)
    shown = event.changes[:most_changes]
    # A few long changes, or many short ones.
    most = None if whole else _CHARACTERS_OF_CHANGES // max(1, len(shown))
    changes = tuple(difference_of(change, most=most) for change in shown)
    targets = event.targets[:most_targets]
    more_targets = len(event.targets) - len(targets)
    more_changes = len(event.changes) - len(changes)
    return EventView(
        event=event,
        action=catalogue.describe(event.action),
        chain=tuple(
            Link(actor=actor, query=_query(actor_id=f"{actor.type}:{actor.id}"))
            for actor in event.actor.chain()
        ),
        targets=tuple(
            TargetView(
                type=target.type,
                id=target.id,
                name=target.name,
                query=_query(target_type=target.type, target_id=target.id),
            )
            for target in targets
        ),
        more_targets=more_targets,
        changes=changes,
        more_changes=more_changes,
        details=details,
        groups=tuple(group for group in _groups(event) if group.fields),
        is_cut=details.is_cut
        or more_targets > 0
        or more_changes > 0
        or any(change.left_out for change in changes),
    )


def _groups(event: Event) -> tuple[Group, ...]:
    context = event.context
    return (
        Group(
            name="who",
            fields=_fields(
                ("user_id", event.user_id, "user_id"),
                ("agent_id", event.agent_id, "agent_id"),
                ("organization_id", event.organization_id, None),
            ),
        ),
        Group(
            name="where",
            fields=_fields(
                ("ip", context.ip, None),
                ("service", context.service, None),
                ("request_id", context.request_id, "request_id"),
                ("session_id", context.session_id, "session_id"),
                ("trace_id", context.trace_id, "trace_id"),
                ("span_id", context.span_id, None),
                ("run_id", context.run_id, "run_id"),
                ("parent_run_id", context.parent_run_id, None),
                ("approval_id", context.approval_id, None),
                ("user_agent", context.user_agent, None),
            ),
        ),
        Group(
            name="record",
            fields=_fields(
                ("tenant_id", event.tenant_id, "tenant_id"),
                ("event_id", event.event_id, None),
                ("idempotency_key", event.idempotency_key, None),
                ("schema_version", str(event.schema_version), None),
                ("stamped", ", ".join(event.stamped) or None, None),
                ("salt", event.salt, None),
            ),
        ),
    )


def _fields(*given: tuple[str, str | None, str | None]) -> tuple[Field, ...]:
    return tuple(
        Field(
            name=name,
            value=value,
            query=None if argument is None else _query(**{argument: value}),
            is_code=name != "user_agent",
        )
        for name, value, argument in given
        if value is not None
    )


def _query(**filters: str) -> str:
    return filter_language.text_of(filters)
