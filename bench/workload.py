"""What is recorded: the same happenings, whoever records them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from uuid import UUID

from muniment import Actor, Event, Target
from muniment.sealing import EventFields

ACTION: Final = "agent_start"

# The caller's own dict, of about 300 bytes as JSON.
DETAILS: Final[dict[str, Any]] = {
    "trigger": {"kind": "schedule", "name": "nightly-invoice-review", "attempt": 2},
    "model": {"name": "reviewer-large", "temperature": 0.2, "tools": ["search", "ledger", "mail"]},
    "input": {"documents": 17, "bytes": 482113, "language": "de", "dry_run": False},
    "limits": {"steps": 40, "seconds": 900, "budget": "12.50 EUR"},
}


class Happening(NamedTuple):
    """An agent of a tenant starts, on behalf of a person."""

    tenant_id: str
    agent_id: UUID
    user_id: UUID
    details: dict[str, Any]


def happenings() -> Callable[[], Happening]:
    """A callable that gives one happening after the other: 20 tenants, 200 agents and people."""
    several = [
        Happening(f"tenant-{n % 20}", UUID(int=n << 96 | 0xA), UUID(int=n << 96 | 0xB), DETAILS)
        for n in range(200)
    ]
    return itertools.cycle(several).__next__


def fields_of(happening: Happening) -> EventFields:
    """It as the fields of an event, made as the caller would."""
    agent, user = str(happening.agent_id), str(happening.user_id)
    return {
        "tenant_id": happening.tenant_id,
        "actor": Actor.agent(agent, name="Reviewer", on_behalf_of=Actor.user(user)),
        "targets": [Target("ledger", "2024")],
        "outcome": "success",
        "details": happening.details,
    }


def event_of(happening: Happening) -> Event:
    """It as an event."""
    agent, user = str(happening.agent_id), str(happening.user_id)
    return Event(
        action=ACTION,
        tenant_id=happening.tenant_id,
        actor=Actor.agent(agent, name="Reviewer", on_behalf_of=Actor.user(user)),
        targets=(Target("ledger", "2024"),),
        outcome="success",  # type: ignore[arg-type]
        details=happening.details,
    )


def plain_fields_of(happening: Happening) -> dict[str, Any]:
    """The same fields as plain values, as a logger takes them."""
    agent, user = str(happening.agent_id), str(happening.user_id)
    return {
        "tenant_id": happening.tenant_id,
        "actor": {
            "type": "agent",
            "id": agent,
            "name": "Reviewer",
            "on_behalf_of": {"type": "user", "id": user},
        },
        "targets": [{"type": "ledger", "id": "2024"}],
        "outcome": "success",
        "details": happening.details,
    }
