from __future__ import annotations

import asyncio
import copy
import hashlib
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import (
    Actor,
    AuditLog,
    Change,
    Context,
    Event,
    Outcome,
    Target,
    configure,
    default_log,
    write_audit_log,
    write_identity_audit_log,
    write_role_audit_log,
    write_tenant_audit_log,
)
from muniment.canonical import MAX_DETAILS_BYTES, canonical_json
from muniment.stores import open_store
from tests.garbage import Hostile, Shapeless, anything, circular

_U1, _U2, _T1 = (uuid.UUID(int=n) for n in (1, 2, 3))


@pytest.fixture(autouse=True)
def _default_log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    default = default_log._DefaultLog()
    monkeypatch.setattr(default_log, "_default", default)
    yield
    default.end(for_good=False)


@pytest.fixture
async def url(store_url: str) -> AsyncIterator[str]:
    """A store of each kind, ready, that the default log is over."""
    store = open_store(store_url)
    await store.upgrade()
    await store.close()
    configure(store_url)
    yield store_url
    await asyncio.to_thread(default_log._default.end, for_good=False)


@pytest.fixture
def quick_url(sqlite_url: str) -> str:
    """A SQLite store that the default log is over, for what no store has a part in."""
    configure(sqlite_url)
    return sqlite_url


async def events_in(url: str) -> list[Event]:
    """All events in a store, oldest first."""
    async with AuditLog.open(url) as log:
        events: list[Event] = []
        cursor = None
        while True:
            page = await log.search(order="oldest", limit=200, cursor=cursor)
            events += page.events
            cursor = page.next_cursor
            if cursor is None:
                return events


async def only_event(url: str) -> Event:
    """The one event in a store."""
    (event,) = await events_in(url)
    return event


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


# --- whatever is given


_BAD_DETAILS: dict[str, Callable[[], Any]] = {
    "circular": circular,
    "NaN": lambda: {"n": float("nan"), "i": float("-inf")},
    "lone surrogates": lambda: {"s": "\ud800", "\udfff": 1},
    "bytes": lambda: {"b": b"\x00\xff", "v": memoryview(b"x")},
    "sets": lambda: {"s": {1, "a"}, "f": frozenset({2})},
    "keys that aren't strings": lambda: {1: "a", None: "b", (1, 2): "c"},
    "__str__ raises": lambda: {"o": Hostile(), Hostile(): 1},
    "__class__ raises": lambda: {"o": Shapeless()},
    "a big integer": lambda: {"n": 2**70},
    "NUL": lambda: {"s": "a\0b", "k\0": 1},
}


@pytest.mark.parametrize("bad", _BAD_DETAILS)
async def test_bad_details_are_recorded(quick_url: str, bad: str) -> None:
    """The call returns, and the event is there, with the good half of its details."""
    await write_audit_log("x", {**_BAD_DETAILS[bad](), "good": "half"})
    event = await only_event(quick_url)
    assert event.details["good"] == "half"
    assert len(event.details) > 1


async def test_every_store_takes_the_same_bad_input(url: str) -> None:
    """Whatever details and ids are made of, they can be stored in every kind of store."""
    for make in _BAD_DETAILS.values():
        await write_audit_log("details", make())
    for bad in ("u\0", "x" * 600, "\ud800", b"x", Hostile()):
        await write_role_audit_log(bad, bad, bad, bad, bad, bad)  # type: ignore[arg-type]
    assert len(await events_in(url)) == len(_BAD_DETAILS) + 5


@pytest.mark.parametrize("details", [["a"], "text", 5, b"x", Hostile])
async def test_details_that_are_no_mapping_are_recorded(quick_url: str, details: Any) -> None:
    """They stand under `value`."""
    bad: Any = details() if details is Hostile else details
    await write_audit_log("x", bad)
    assert set((await only_event(quick_url)).details) == {"value"}


async def test_details_over_the_limit_become_a_note(quick_url: str) -> None:
    """Their size and SHA-256 are recorded in their place; tenant, error and outcome are kept."""
    details = {
        "bulk": "ü" * MAX_DETAILS_BYTES,
        "tenant_id": "acme",
        "success": False,
        "error": "no room",
    }
    await write_audit_log("x", details, organization_id="o1")
    event = await only_event(quick_url)
    body = canonical_json(details)
    assert event.details == {
        "too_big": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()},
        "organization_id": "o1",
    }
    assert (event.tenant_id, event.outcome, event.reason) == ("acme", Outcome.FAILURE, "no room")


async def test_the_limit_of_details_is_the_configured_one(sqlite_url: str) -> None:
    """Where a log allows less, its limit counts, however little that is."""
    configure(sqlite_url, max_details_bytes=200)
    await write_audit_log("x", {"bulk": "x" * 190}, tenant_id="t" * 100)
    event = await only_event(sqlite_url)
    assert set(event.details) == {"too_big"}
    assert event.tenant_id == "t" * 100


async def test_the_callers_details_are_never_changed(quick_url: str) -> None:
    """Neither the ids that the event adds nor the conversions reach the caller's objects."""
    details: dict[str, Any] = {"list": [{1, 2}, {"deep": float("inf")}]}
    before = copy.deepcopy(details)
    await write_audit_log("x", details, tenant_id="acme", organization_id="o1")
    await write_tenant_audit_log("x", None, "acme", details)
    assert details == before
    assert len(await events_in(quick_url)) == 2


async def test_details_are_those_of_the_moment_of_the_call(quick_url: str) -> None:
    """What the caller changes while the event is on its way changes nothing."""
    details = {"list": [1]}
    changes = [Change(field="f", old=details)]
    writing = asyncio.ensure_future(write_audit_log("x", details, changes=changes))
    await asyncio.sleep(0)
    details["list"].append(2)
    await writing
    event = await only_event(quick_url)
    assert event.details == {"list": [1]}
    assert event.changes[0].old == {"list": [1]}


@pytest.mark.parametrize(
    ("user_id", "recorded"),
    [
        ("u\0", "u\\x00"),
        ("x" * 600, "x" * 493 + "…" + hashlib.sha256(b"x" * 600).hexdigest()[:16]),
        ("\ud800", "\\ud800"),
    ],
    ids=["NUL", "over 512 bytes", "lone surrogate"],
)
async def test_an_id_that_no_store_can_hold_is_made_to_fit(
    quick_url: str, user_id: str, recorded: str
) -> None:
    """The event is found under the nearest id, and the details say what was given."""
    await write_audit_log("x", user_id=user_id)
    event = await only_event(quick_url)
    assert event.user_id == recorded
    if user_id != "\ud800":
        assert event.details["salvaged"]["user_id"]["given"] == user_id


@pytest.mark.parametrize("action", ["", None, 5, b"x", ["a"], {}, "\0", "a" * 600, "\ud800"])
async def test_an_action_of_any_kind_is_recorded(quick_url: str, action: Any) -> None:
    """An action that is empty or no text becomes `unknown` or its text; the event is there."""
    await write_audit_log(action)
    assert (await only_event(quick_url)).action


async def test_an_action_that_says_nothing_is_unknown(quick_url: str) -> None:
    """An empty action is recorded as `unknown`, and noted."""
    await write_audit_log("")
    event = await only_event(quick_url)
    assert event.action == "unknown"
    assert event.details["salvaged"]["action"]["problem"] == "is no text"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outcome", "splendid"),
        ("outcome", []),
        ("targets", "u2"),
        ("targets", [("user", "u2")]),
        ("targets", [Target("t", str(n)) for n in range(1001)]),
        ("changes", [{"field": "f"}]),
        ("changes", [Change(field="f", old=n) for n in range(1001)]),
        ("context", {"ip": "10.0.0.1"}),
        ("occurred_at", "yesterday"),
        ("occurred_at", datetime(2024, 1, 1)),  # noqa: DTZ001 - that is what is wrong with it
        ("occurred_at", datetime(1960, 1, 1, tzinfo=UTC)),
        ("occurred_at", datetime.now(UTC) + timedelta(days=3)),
        ("organization_id", ["o"]),
        ("idempotency_key", {"k": 1}),
        ("no_such_argument", 1),
    ],
)
async def test_an_argument_that_an_event_can_not_hold_is_left_out_and_noted(
    quick_url: str, name: str, value: Any
) -> None:
    """The rest of the event is recorded, and its details say what is missing and why."""
    bad: dict[str, Any] = {name: value}
    await write_audit_log("x", {"good": 1}, user_id="u1", **bad)
    event = await only_event(quick_url)
    assert event.user_id == "u1"
    assert event.details["good"] == 1
    assert event.details["salvaged"][name]["problem"]


async def test_changes_that_json_can_not_hold_are_converted(quick_url: str) -> None:
    """A change is kept, its values are salvaged as details are."""
    await write_audit_log("x", changes=[Change(field="f", old={2, 1}, new=float("nan"))])
    assert (await only_event(quick_url)).changes == (Change(field="f", old=[1, 2], new="nan"),)


async def test_an_event_that_is_too_big_without_its_details_loses_its_bulk(quick_url: str) -> None:
    """Changes beyond the size of a body are left out and noted, with their number."""
    changes = [Change(field="f", old="x" * 50_000) for _ in range(40)]
    await write_audit_log("x", {"good": 1}, changes=changes, targets=[Target("t", "1")])
    event = await only_event(quick_url)
    assert (event.changes, event.targets) == ((), (Target("t", "1"),))
    assert event.details["salvaged"]["changes"]["given"] == "40 of them"


async def test_a_detail_called_salvaged_is_kept(quick_url: str) -> None:
    """The note goes beside what the caller calls by the same name."""
    await write_audit_log("x", {"salvaged": "goods"}, user_id="u\0")
    details = (await only_event(quick_url)).details
    assert details["salvaged"] == "goods"
    assert details["salvaged (2)"]["user_id"]["given"] == "u\0"


async def test_the_same_key_is_recorded_once(url: str) -> None:
    """Another try with the same idempotency key adds nothing."""
    for _ in range(2):
        await write_audit_log("x", {"n": 1}, tenant_id="acme", idempotency_key=_U1)
    assert (await only_event(url)).idempotency_key == str(_U1)


async def test_another_event_under_the_same_key_is_logged(
    quick_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first event is kept; the second raises nothing, but is not passed over in silence."""
    await write_audit_log("x", {"n": 1}, idempotency_key="k")
    await write_audit_log("x", {"n": 2}, idempotency_key="k")
    assert (await only_event(quick_url)).details == {"n": 1}
    assert "the first one was kept" in caplog.text


_CALLS: dict[Callable[..., Awaitable[None]], tuple[str, ...]] = {
    write_audit_log: ("action", "details", "agent_id", "user_id", "tenant_id"),
    write_identity_audit_log: (
        "action",
        "user_id",
        "provider_type",
        "provider_user_id",
        "success",
        "error_message",
        "tenant_id",
        "agent_id",
    ),
    write_role_audit_log: (
        "action",
        "user_id",
        "target_user_id",
        "role_name",
        "tenant_id",
        "granted_by",
        "agent_id",
    ),
    write_tenant_audit_log: ("action", "user_id", "tenant_id", "details", "agent_id"),
}
_EXTRAS = ("organization_id", "outcome", "reason", "targets", "changes", "context", "occurred_at")


@pytest.mark.parametrize("function", _CALLS, ids=lambda function: function.__name__)
def test_whatever_is_given_the_call_returns_and_the_event_is_there(
    sqlite_url: str, function: Callable[..., Awaitable[None]]
) -> None:
    """No argument of any kind raises or loses an event: there are as many as there were calls."""
    configure(sqlite_url)
    calls = 0

    @settings(max_examples=50, deadline=None)
    @given(
        st.fixed_dictionaries(
            dict.fromkeys(_CALLS[function], anything),
            optional=dict.fromkeys(_EXTRAS, anything),
        )
    )
    def call(arguments: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        asyncio.run(function(**arguments))  # type: ignore[arg-type]

    call()
    default_log._default.end(for_good=False)
    events = asyncio.run(events_in(sqlite_url))
    assert len(events) == calls
    assert not [event for event in events if event.action == "audit.loss"]


async def test_cancellation_passes_through_and_the_event_is_recorded(url: str) -> None:
    """A cancelled caller is cancelled; what it had handed over is not taken back."""
    writing = asyncio.ensure_future(write_audit_log("x"))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await asyncio.to_thread(default_log._default.end, for_good=False)
    assert (await only_event(url)).action == "x"
