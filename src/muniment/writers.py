"""The four functions that background services call: an event is recorded, the caller never broken.

They raise no `Exception`, whatever they are given, and change nothing of it. What a field of the
event can't hold is left out, or made to fit, and stands in `details["salvaged"]` with the reason.
An event that can be recorded nowhere is logged.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypedDict, Unpack

from muniment import default_log
from muniment.canonical import MAX_BODY_BYTES, encode
from muniment.default_log import Setup
from muniment.errors import InvalidEvent
from muniment.event import SYSTEM_TENANT, Actor, Change, Context, Event, Outcome, Target
from muniment.salvage import (
    as_text,
    fits,
    salvage_details,
    salvage_id,
    salvage_text,
    salvage_value,
    too_big,
)
from muniment.sealing import MAX_AHEAD

Id = uuid.UUID | str | int
_NO_ACTION: Final = "unknown"
_SALVAGED: Final = "salvaged"
_LOGS_SHARE: Final = 4096
"""Bytes of a body that are the log's to fill in."""


class Extras(TypedDict, total=False):
    """What all four functions take besides, by name; None is the same as not given."""

    organization_id: Id | None
    outcome: Outcome | str | None
    reason: str | None
    targets: Sequence[Target] | None
    changes: Sequence[Change] | None
    context: Context | None
    occurred_at: datetime | None
    idempotency_key: Id | None


async def write_audit_log(
    action: str,
    details: dict[str, Any] | None = None,
    agent_id: Id | None = None,
    user_id: Id | None = None,
    *,
    tenant_id: Id | None = None,
    **extras: Unpack[Extras],
) -> None:
    """Record an event, durably before it returns; see the module for what is never raised.

    The tenant is `tenant_id`, else `details["tenant_id"]`, else what `configure(tenant_of=...)`
    says, else "system". The outcome is the given one, else `details["success"]`, else `failure` for
    an action that ends in `_failed`, else `unknown`. With both ids the agent acts on behalf of the
    user.
    """
    await _write(
        action, details, agent_id=agent_id, user_id=user_id, tenant_id=tenant_id, extras=extras
    )


async def write_identity_audit_log(  # noqa: PLR0917 - callers may give them by place
    action: str,
    user_id: Id | None = None,
    provider_type: str | None = None,
    provider_user_id: Id | None = None,
    success: bool = True,  # noqa: FBT001, FBT002 - the same
    error_message: str | None = None,
    tenant_id: Id | None = None,
    *,
    agent_id: Id | None = None,
    **extras: Unpack[Extras],
) -> None:
    """Record an event about an identity, as `write_audit_log` does.

    The target is the identity at the provider; `success=False` is outcome `failure`, and
    `error_message` its reason.
    """
    details = {
        "provider_type": provider_type,
        "provider_user_id": provider_user_id,
        "success": success,
    }
    if _is_given(error_message):
        details["error"] = error_message
    await _write(
        action,
        details,
        agent_id=agent_id,
        user_id=user_id,
        tenant_id=tenant_id,
        extras=extras,
        target=("identity", provider_user_id, provider_type),
    )


async def write_role_audit_log(  # noqa: PLR0917 - callers may give them by place
    action: str,
    user_id: Id | None = None,
    target_user_id: Id | None = None,
    role_name: str | None = None,
    tenant_id: Id | None = None,
    granted_by: Id | None = None,
    *,
    agent_id: Id | None = None,
    **extras: Unpack[Extras],
) -> None:
    """Record an event about a role, as `write_audit_log` does.

    The target is the user to whom it was granted; the actor is `user_id`, else `granted_by`. The
    outcome is `success`, unless another is given or the action ends in `_failed`.
    """
    details = {
        "target_user_id": as_text(target_user_id) if _is_given(target_user_id) else None,
        "role_name": role_name,
        "granted_by": as_text(granted_by) if _is_given(granted_by) else None,
    }
    await _write(
        action,
        details,
        agent_id=agent_id,
        user_id=user_id if _is_given(user_id) else granted_by,
        tenant_id=tenant_id,
        extras=extras,
        target=("user", target_user_id, None),
        usual=Outcome.SUCCESS,
    )


async def write_tenant_audit_log(
    action: str,
    user_id: Id | None = None,
    tenant_id: Id | None = None,
    details: dict[str, Any] | None = None,
    *,
    agent_id: Id | None = None,
    **extras: Unpack[Extras],
) -> None:
    """Record an event about a tenant, which is its target, as `write_audit_log` does.

    The outcome is `success`, unless another is given or the action ends in `_failed`.
    """
    await _write(
        action,
        details,
        agent_id=agent_id,
        user_id=user_id,
        tenant_id=tenant_id,
        extras=extras,
        about_tenant=True,
        usual=Outcome.SUCCESS,
    )


async def _write(
    action: object,
    details: object,
    *,
    agent_id: object,
    user_id: object,
    tenant_id: object,
    extras: Extras,
    target: tuple[str, object, object] | None = None,
    about_tenant: bool = False,
    usual: Outcome = Outcome.UNKNOWN,
) -> None:
    try:
        draft = _Draft(details, default_log.current_setup())
        draft.set_tenant(tenant_id, is_target=about_tenant)
        draft.set_actor(agent_id, user_id)
        if target is not None:
            draft.add_target(*target)
        draft.set_extras(dict(extras))
        await default_log.record(draft.finish(action, usual))
    except Exception as error:  # noqa: BLE001 - the caller is never broken
        default_log.report("an event is lost: %s", as_text(error))


class _Draft:
    """An event in the making; it takes whatever was given, and notes what a field can't hold."""

    def __init__(self, details: object, setup: Setup) -> None:
        self._given = salvage_details(details, max_bytes=None)
        self._setup = setup
        self._kept: dict[str, Any] = {}
        self._notes: dict[str, dict[str, str | None]] = {}
        self._fields: dict[str, Any] = {}
        self._targets: list[Target] = []

    # --- what the event is about

    def set_tenant(self, tenant_id: object, *, is_target: bool) -> None:
        """The argument, else the details', else the resolver's, else the log's own or `system`."""
        found = self._id("tenant_id", tenant_id)
        if found is not None:
            self._kept["tenant_id"] = as_text(tenant_id)
        found = found or salvage_id(self._given.get("tenant_id")) or self._ask_resolver()
        if is_target and found is not None:
            self._targets.append(Target("tenant", found))
        bound = self._setup.bound_tenant
        if bound is not None and found not in {None, bound}:
            self._note("tenant_id", found, f"the log is bound to {bound}")
        self._fields["tenant_id"] = bound or found or SYSTEM_TENANT

    def _ask_resolver(self) -> str | None:
        tenant_of = self._setup.tenant_of
        if tenant_of is None:
            return None
        try:
            return salvage_id(tenant_of())
        except Exception as error:  # noqa: BLE001 - the event matters more than its tenant
            default_log.report("tenant_of failed: %s", as_text(error))
            self._note("tenant_id", None, f"tenant_of raised {type(error).__name__}")
            return None

    def set_actor(self, agent_id: object, user_id: object) -> None:
        """The agent, on behalf of the user if there are both; the user; else the system."""
        agent, user = self._id("agent_id", agent_id), self._id("user_id", user_id)
        person = None if user is None else Actor.user(user)
        if agent is not None:
            self._fields["actor"] = Actor.agent(agent, on_behalf_of=person)
        elif person is not None:
            self._fields["actor"] = person

    def add_target(self, kind: str, given: object, name: object) -> None:
        """What the action was done to, if it is known; its id stands in the details as given."""
        found = salvage_id(given)
        if found is not None:
            self._targets.append(Target(kind, found, salvage_text(name)))

    def set_extras(self, extras: dict[str, Any]) -> None:
        """Take each that the event can hold, and note the others."""
        organization_id = extras.pop("organization_id", None)
        found = self._id("organization_id", organization_id)
        if found is not None:
            self._kept["organization_id"] = as_text(organization_id)
        self._fields["organization_id"] = found or salvage_id(self._given.get("organization_id"))
        self._fields["idempotency_key"] = self._id(
            "idempotency_key", extras.pop("idempotency_key", None)
        )
        makers = {**_MAKERS, "targets": self._made_targets}
        for name, given in extras.items():
            if given is None:
                continue
            if name not in makers:
                self._note(name, given, "there is no such argument")
                continue
            try:
                self._fields[name] = makers[name](given)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the rest is recorded
                self._note(name, given, problem)

    def _made_targets(self, given: Any) -> list[Target]:
        """The targets, behind those that the function itself knows of."""
        self._targets = [*_as_field("targets")([*self._targets, *_as_field("targets")(given)])]
        return self._targets

    # --- the event

    def finish(self, action: object, usual: Outcome) -> Event:
        """The event, complete, as it can be recorded."""
        name = self._id("action", action)
        if name is None:
            name = _NO_ACTION
            self._note("action", action, "is no text")
        fields = {name: value for name, value in self._fields.items() if value is not None}
        if self._targets:
            fields["targets"] = self._targets
        fields.setdefault("outcome", self._outcome(name, usual))
        reason = salvage_text(self._given.get("error"))
        if reason is not None:
            fields.setdefault("reason", reason)
        event = Event(action=name, details=self._details(), **fields)
        for bulk in ("changes", "targets"):
            if bulk in fields and self._is_too_big(event):
                self._note(bulk, f"{len(fields.pop(bulk))} of them", "are too much for an event")
                event = Event(action=name, details=self._details(), **fields)
        return event

    def _outcome(self, action: str, usual: Outcome) -> Outcome:
        success = self._given.get("success")
        if isinstance(success, bool):
            return Outcome.SUCCESS if success else Outcome.FAILURE
        return Outcome.FAILURE if action.endswith("_failed") else usual

    def _details(self) -> dict[str, Any]:
        most = self._setup.max_details_bytes
        key = f"{_SALVAGED} (2)" if _SALVAGED in self._given else _SALVAGED
        notes = {key: self._notes} if self._notes else {}
        whole = {**self._given, **self._kept, **notes}
        if fits(whole, most):
            return whole
        note = too_big(self._given)
        choices = ({**note, **self._kept, **notes}, {**note, **self._kept}, note)
        return next((choice for choice in choices if fits(choice, most)), {})

    def _is_too_big(self, event: Event) -> bool:
        most = self._setup.max_details_bytes
        try:
            body = encode(event, max_details_bytes=most)
        except InvalidEvent:
            return True
        return len(body) > MAX_BODY_BYTES + most - _LOGS_SHARE

    # --- notes

    def _id(self, field: str, given: object) -> str | None:
        """The id for a field; what was given is noted if it had to become another."""
        found = salvage_id(given)
        if given is not None:
            text = as_text(given)
            if text and text != found:
                self._note(field, text, "was made to fit" if found else "is no id")
        return found

    def _note(self, field: str, given: object, problem: object) -> None:
        self._notes[field] = {"given": salvage_text(given), "problem": salvage_text(problem)}


def _is_given(value: object) -> bool:
    """Whether an argument counts as given, as the truth of it decides."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - any object may do anything in its __bool__
        return True


def _as_field(name: str) -> Callable[[Any], Any]:
    def make(given: Any) -> Any:
        return getattr(Event(action=_NO_ACTION, **{name: given}), name)

    return make


def _made_changes(given: Any) -> list[Change]:
    """The changes, with values that JSON can hold, and that no caller can change any more."""
    changes = _as_field("changes")(given)
    values = salvage_value([value for change in changes for value in (change.old, change.new)])
    if len(values) != 2 * len(changes):
        raise InvalidEvent("changes", "hold too many values")
    return [
        Change(field=change.field, old=old, new=new)
        for change, old, new in zip(changes, values[::2], values[1::2], strict=True)
    ]


def _made_moment(given: Any) -> datetime:
    moment: datetime = _as_field("occurred_at")(given)
    if moment - datetime.now(UTC) > MAX_AHEAD:
        raise InvalidEvent("occurred_at", "is too far ahead of this machine's clock")
    return moment


_MAKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "outcome": Outcome,
    "reason": salvage_text,
    "changes": _made_changes,
    "context": _as_field("context"),
    "occurred_at": _made_moment,
}
