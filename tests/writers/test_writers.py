from __future__ import annotations

import asyncio
import copy
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import (
    Change,
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
from tests.garbage import Hostile, Shapeless, anything, circular
from tests.writers.written import events_in, only_event

_U1, _U2, _T1 = (uuid.UUID(int=n) for n in (1, 2, 3))
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

    @settings(max_examples=50)
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
