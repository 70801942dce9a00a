"""A long trail to search in: events of 300 days, with values that are common, rare or absent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from bench.workload import DETAILS
from muniment import Actor, Context, Event, Target
from muniment.sealing import Sealer
from muniment.stores.base import Sealed

TENANTS: Final = tuple(f"tenant-{n:02}" for n in range(20))
RARE: Final = 20
"""How many of a tenant's events have the rare values, however long the trail is."""
_DAYS: Final = 300


class Sought(NamedTuple):
    """A filter of `search`, and its values: in half of a tenant's events, in 20, in none."""

    name: str
    common: str
    rare: str
    absent: str


SOUGHT: Final = (
    Sought("action", "login", "tenant_delete", "role_create"),
    Sought("action", "log*", "tenant_*", "role_*"),
    Sought("category", "authentication", "tenant", "org"),
    Sought("outcome", "success", "denied", "unknown"),
    Sought("actor_type", "user", "service", "system"),
    Sought("actor_id", "u-common", "s-rare", "nobody"),
    Sought("user_id", "u-common", "u-rare", "nobody"),
    Sought("agent_id", "a-common", "a-rare", "nobody"),
    Sought("target_type", "ledger", "vault", "nothing"),
    Sought("target_id", "t-common", "t-rare", "nothing"),
    Sought("request_id", "q-common", "q-rare", "nothing"),
    Sought("trace_id", "t-common", "t-rare", "nothing"),
    Sought("run_id", "r-common", "r-rare", "nothing"),
)


def trail(count: int, end: datetime) -> Iterator[Sealed]:
    """`count` sealed events in the order of their time; the last one just before `end`."""
    begin = end - timedelta(days=_DAYS)
    step = timedelta(days=_DAYS) / count
    each = count // len(TENANTS)
    every = max(1, each // RARE)
    sealer = Sealer(clock=lambda: end)
    for n in range(count):
        k = n // len(TENANTS)
        event = _event(TENANTS[n % len(TENANTS)], k, begin + n * step, k % every == every // 2)
        yield sealer.seal(event)


def _event(tenant: str, k: int, moment: datetime, is_rare: bool) -> Event:  # noqa: FBT001
    if is_rare:
        person = Actor.user("u-rare")
        return Event(
            action="tenant_delete",
            tenant_id=tenant,
            occurred_at=moment,
            actor=Actor(
                type="service",
                id="s-rare",
                on_behalf_of=Actor.agent("a-rare", on_behalf_of=person),
            ),
            targets=(Target("vault", "t-rare"),),
            outcome="denied",  # type: ignore[arg-type]
            context=Context(request_id="q-rare", trace_id="t-rare", run_id="r-rare"),
            details=DETAILS,
        )
    if k % 2:
        return Event(
            action="agent_start",
            tenant_id=tenant,
            occurred_at=moment,
            actor=Actor.agent("a-common", on_behalf_of=Actor.user(f"u-{k % 1000}")),
            targets=(Target("ledger", "t-common"),),
            outcome="success",  # type: ignore[arg-type]
            details=DETAILS,
        )
    return Event(
        action="login",
        tenant_id=tenant,
        occurred_at=moment,
        actor=Actor.user("u-common"),
        outcome="success",  # type: ignore[arg-type]
        context=Context(request_id="q-common", trace_id="t-common", run_id="r-common"),
        details=DETAILS,
    )
