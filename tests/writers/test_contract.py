"""The writers keep the contract of the ones they replace: their events, and whose they are."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muniment import (
    Actor,
    Change,
    Context,
    Outcome,
    Target,
    configure,
    write_audit_log,
    write_identity_audit_log,
    write_role_audit_log,
    write_tenant_audit_log,
)
from tests.writers.written import events_in, only_event

_U1, _U2, _T1 = (uuid.UUID(int=n) for n in (1, 2, 3))


# --- the seed's contract


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            write_audit_log,
            {"action": ..., "details": None, "agent_id": None, "user_id": None},
        ),
        (
            write_identity_audit_log,
            {
                "action": ...,
                "user_id": None,
                "provider_type": None,
                "provider_user_id": None,
                "success": True,
                "error_message": None,
                "tenant_id": None,
            },
        ),
        (
            write_role_audit_log,
            {
                "action": ...,
                "user_id": None,
                "target_user_id": None,
                "role_name": None,
                "tenant_id": None,
                "granted_by": None,
            },
        ),
        (
            write_tenant_audit_log,
            {"action": ..., "user_id": None, "tenant_id": None, "details": None},
        ),
    ],
)
def test_parameters_order_and_defaults_stay(
    function: Callable[..., Awaitable[None]], parameters: dict[str, Any]
) -> None:
    """Calls written for the helper that these functions replace go on working, by place too."""
    positional = {
        name: ... if p.default is p.empty else p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    }
    assert list(positional.items()) == list(parameters.items())
    assert inspect.iscoroutinefunction(function)


async def test_an_event_is_complete(url: str) -> None:
    """All that a caller may say stands in its own field, Unicode as it was given."""
    occurred_at = datetime.now(UTC).replace(microsecond=5000) - timedelta(hours=1)
    returned: object = await write_audit_log(  # type: ignore[func-returns-value]
        "invoice.delete",
        {"grund": "Überfällig 👍", "n": 1.5},
        agent_id=_U1,
        user_id=_U2,
        tenant_id=_T1,
        organization_id="org-7",
        outcome="denied",
        reason="无权限",
        targets=[Target("invoice", "i-1")],
        changes=[Change(field="state", old="open", new=None)],
        context=Context(ip="10.0.0.1", request_id="r1"),
        occurred_at=occurred_at,
        idempotency_key="k1",
    )
    assert returned is None
    event = await only_event(url)
    assert (event.action, event.tenant_id) == ("invoice.delete", str(_T1))
    assert event.actor == Actor.agent(str(_U1), on_behalf_of=Actor.user(str(_U2)))
    assert (event.outcome, event.reason) == (Outcome.DENIED, "无权限")
    assert event.targets == (Target("invoice", "i-1"),)
    assert event.changes == (Change(field="state", old="open", new=None),)
    assert event.context == Context(ip="10.0.0.1", request_id="r1")
    assert event.occurred_at == occurred_at
    assert event.organization_id == "org-7"
    assert event.idempotency_key == "k1"
    assert event.details == {
        "grund": "Überfällig 👍",
        "n": 1.5,
        "tenant_id": str(_T1),
        "organization_id": "org-7",
    }


async def test_an_identity_event(url: str) -> None:
    """The seed's details stay; the identity is the target, a failure has its reason."""
    await write_identity_audit_log(
        "sso_login", _U1, "feishu", "ou_1", success=False, error_message="токен", tenant_id=_T1
    )
    event = await only_event(url)
    assert event.details == {
        "provider_type": "feishu",
        "provider_user_id": "ou_1",
        "success": False,
        "error": "токен",
        "tenant_id": str(_T1),
    }
    assert (event.outcome, event.reason) == (Outcome.FAILURE, "токен")
    assert event.actor == Actor.user(str(_U1))
    assert event.targets == (Target("identity", "ou_1", "feishu"),)
    assert event.tenant_id == str(_T1)


async def test_an_identity_event_of_which_nothing_is_known(url: str) -> None:
    """What the seed writes as null is null, what it leaves out is left out."""
    await write_identity_audit_log("identity_bind")
    event = await only_event(url)
    assert event.details == {"provider_type": None, "provider_user_id": None, "success": True}
    assert (event.outcome, event.reason) == (Outcome.SUCCESS, None)
    assert (event.actor, event.targets) == (Actor.system(), ())
    assert event.tenant_id == "system"


async def test_a_role_event(url: str) -> None:
    """The target is the user to whom the role was granted; ids in details are text."""
    await write_role_audit_log("role_assign", "u1", _U2, "admin", _T1, "boss")
    event = await only_event(url)
    assert event.details == {
        "target_user_id": str(_U2),
        "role_name": "admin",
        "granted_by": "boss",
        "tenant_id": str(_T1),
    }
    assert event.targets == (Target("user", str(_U2)),)
    assert event.actor == Actor.user("u1")
    assert event.outcome == Outcome.SUCCESS


async def test_a_role_event_without_a_user_is_done_by_who_granted_it(quick_url: str) -> None:
    """`granted_by` is the actor where `user_id` is missing."""
    await write_role_audit_log("role_revoke", granted_by=_U1)
    event = await only_event(quick_url)
    assert event.actor == Actor.user(str(_U1))
    assert event.details == {
        "target_user_id": None,
        "role_name": None,
        "granted_by": str(_U1),
    }


async def test_a_tenant_event(url: str) -> None:
    """The tenant is tenant and target; the details are the caller's with its id."""
    await write_tenant_audit_log("tenant_update", "u1", _T1, {"plan": "pro"})
    event = await only_event(url)
    assert event.details == {"plan": "pro", "tenant_id": str(_T1)}
    assert event.targets == (Target("tenant", str(_T1)),)
    assert (event.tenant_id, event.outcome) == (str(_T1), Outcome.SUCCESS)


async def test_targets_are_added_to_the_functions_own(quick_url: str) -> None:
    """Further targets stand behind the one that the function knows of."""
    await write_role_audit_log("role_assign", target_user_id="u2", targets=[Target("role", "r")])
    assert (await only_event(quick_url)).targets == (Target("user", "u2"), Target("role", "r"))


@pytest.mark.parametrize(
    ("agent_id", "user_id", "actor"),
    [
        ("a", "u", Actor.agent("a", on_behalf_of=Actor.user("u"))),
        ("a", None, Actor.agent("a")),
        (None, "u", Actor.user("u")),
        (None, None, Actor.system()),
        ("", "", Actor.system()),
    ],
)
async def test_who_the_actor_is(
    quick_url: str, agent_id: str | None, user_id: str | None, actor: Actor
) -> None:
    """An agent acts on behalf of the user; without an agent the user acts; else the system."""
    await write_audit_log("x", agent_id=agent_id, user_id=user_id)
    assert (await only_event(quick_url)).actor == actor


@pytest.mark.parametrize(
    ("action", "details", "outcome", "expected"),
    [
        ("x", {"success": True}, "denied", "denied"),
        ("x_failed", {"success": True}, None, "success"),
        ("x", {"success": False}, None, "failure"),
        ("x", {"success": "no"}, None, "unknown"),
        ("x_failed", None, None, "failure"),
        ("x", None, None, "unknown"),
    ],
)
async def test_how_the_outcome_is_found(
    quick_url: str, action: str, details: Any, outcome: Any, expected: str
) -> None:
    """The argument goes before `success`, that before the action's name."""
    await write_audit_log(action, details, outcome=outcome)
    assert (await only_event(quick_url)).outcome == expected


@pytest.mark.parametrize("function", [write_role_audit_log, write_tenant_audit_log])
async def test_a_failed_role_or_tenant_action_is_a_failure(
    quick_url: str, function: Callable[..., Awaitable[None]]
) -> None:
    """Success is assumed only where the action does not say otherwise."""
    await function("role_assign_failed")
    assert (await only_event(quick_url)).outcome == Outcome.FAILURE


async def test_the_error_in_details_is_the_reason(quick_url: str) -> None:
    """`details["error"]` is the reason, as it is in imported tables."""
    await write_audit_log("x_failed", {"error": "no route"})
    assert (await only_event(quick_url)).reason == "no route"


# --- the tenant


@pytest.mark.parametrize(
    ("argument", "in_details", "resolved", "expected"),
    [
        ("a", "b", "c", "a"),
        (None, _T1, "c", str(_T1)),
        (None, None, _T1, str(_T1)),
        (None, None, None, "system"),
        ("", {"no": "id"}, "", "system"),
    ],
)
async def test_where_the_tenant_comes_from(
    sqlite_url: str, argument: Any, in_details: Any, resolved: Any, expected: str
) -> None:
    """The argument goes before the details, these before the resolver, that before `system`."""
    configure(sqlite_url, tenant_of=lambda: resolved)
    await write_audit_log("x", {"tenant_id": in_details}, tenant_id=argument)
    assert (await only_event(sqlite_url)).tenant_id == expected


async def test_the_resolver_runs_in_the_context_of_the_caller(sqlite_url: str) -> None:
    """A context variable gives each task its own tenant."""
    tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
    configure(sqlite_url, tenant_of=tenant.get)

    async def serve(name: str) -> None:
        tenant.set(name)
        await write_audit_log("x", {"expected": name})

    await asyncio.gather(*(serve(name) for name in ("a", "b", "c")))
    for event in await events_in(sqlite_url):
        assert event.tenant_id == event.details["expected"]


async def test_a_resolver_that_raises_costs_the_tenant_only(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The event is recorded under `system`, says why, and the error is logged."""

    def broken() -> str:
        raise LookupError

    configure(sqlite_url, tenant_of=broken)
    await write_audit_log("x")
    event = await only_event(sqlite_url)
    assert event.tenant_id == "system"
    assert event.details["salvaged"]["tenant_id"]["problem"] == "tenant_of raised LookupError"
    assert "tenant_of failed" in caplog.text


async def test_a_log_bound_to_a_tenant_records_under_that_one(sqlite_url: str) -> None:
    """Another tenant's event is not lost: it is recorded under the log's own, and noted."""
    configure(sqlite_url, tenant_id="acme")
    await write_audit_log("one")
    await write_audit_log("two", tenant_id="other")
    one, two = await events_in(sqlite_url)
    assert (one.tenant_id, one.details) == ("acme", {})
    assert two.tenant_id == "acme"
    assert two.details["tenant_id"] == two.details["salvaged"]["tenant_id"]["given"] == "other"


async def test_the_organization_comes_from_the_details_too(quick_url: str) -> None:
    """`details["organization_id"]` is the event's, unless one is given."""
    await write_audit_log("x", {"organization_id": _T1})
    assert (await only_event(quick_url)).organization_id == str(_T1)
