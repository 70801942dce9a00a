"""Tokens: made, renewed and revoked. Each of these is recorded in the log itself."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from muniment.checks import check_id
from muniment.errors import InvalidConfig, InvalidEvent, MunimentError
from muniment.event import SYSTEM_TENANT, Actor, Outcome, Target
from muniment.http.access import Scope
from muniment.http.auth.secrets import Issued, issue
from muniment.log import AuditLog
from muniment.sealing import utc_now
from muniment.stores.base import Store
from muniment.stores.credentials import Credential

CREATE_ACTION: Final = "audit.token_create"
ROTATE_ACTION: Final = "audit.token_rotate"
REVOKE_ACTION: Final = "audit.token_revoke"
_FIRST_NAME: Final = "first token"


async def create_token(
    log: AuditLog,
    *,
    name: str,
    scopes: Collection[Scope],
    tenant_id: str | None,
    lifetime: timedelta | None = None,
    actor: Actor | None = None,
    now: datetime | None = None,
) -> Issued:
    """A new token, kept and recorded, and its secret, which is nowhere else.

    `tenant_id` None is all tenants, `lifetime` None for ever. Raises `InvalidConfig` naming the
    argument, and as `AuditLog.record` does: nobody has the secret of a token that is not recorded.
    """
    now = now or utc_now()
    try:
        check_id("name", name)
        if tenant_id is not None:
            check_id("tenant_id", tenant_id)
    except InvalidEvent as error:
        raise InvalidConfig(str(error)) from None
    if not scopes:
        raise InvalidConfig(f"scopes: name at least one of {', '.join(Scope)}")
    if lifetime is not None and lifetime <= timedelta(0):
        raise InvalidConfig("lifetime: must be longer than nothing")
    issued = issue(
        "token",
        name=name,
        scopes=frozenset(scopes),
        tenant_id=tenant_id,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )
    await log.store.credentials.add(issued.credential)
    await _record(log, CREATE_ACTION, issued.credential, actor)
    return issued


async def rotate_token(
    log: AuditLog,
    id: str,
    *,
    grace: timedelta = timedelta(hours=24),
    actor: Actor | None = None,
    now: datetime | None = None,
) -> Issued:
    """A new token in place of one, which goes on for `grace`: the time to exchange it everywhere.

    Of the same name, scopes and tenant, and from now on as long-lived. Raises `MunimentError`
    unless there is such a token, good for something still.
    """
    now = now or utc_now()
    if grace < timedelta(0):
        raise InvalidConfig("grace: must not be less than nothing")
    old = await token(log.store, id)
    if not old.is_valid(now):
        raise MunimentError(f"token {id} is expired or revoked; create a new one")
    issued = issue(
        "token",
        name=old.name,
        scopes=frozenset(map(Scope, old.scopes)),
        tenant_id=old.tenant_id,
        created_at=now,
        expires_at=old.expires_at and now + (old.expires_at - old.created_at),
    )
    await log.store.credentials.add(issued.credential)
    await _record(log, ROTATE_ACTION, issued.credential, actor, in_place_of=id)
    await log.store.credentials.revoke(id, now + grace)
    await _record(log, REVOKE_ACTION, old, actor, holds_from=(now + grace).isoformat())
    return issued


async def revoke_token(
    log: AuditLog, id: str, *, actor: Actor | None = None, now: datetime | None = None
) -> Credential:
    """The token that is revoked from now on, and with it what was made with it.

    It holds within five seconds, in every process. Raises `MunimentError` unless there is such a
    token, good for something still.
    """
    now = now or utc_now()
    found = await token(log.store, id)
    if not await log.store.credentials.revoke(id, now):
        raise MunimentError(f"token {id} is expired or revoked already")
    await _record(log, REVOKE_ACTION, found, actor, holds_from=now.isoformat())
    return found


async def token(store: Store, id: str) -> Credential:
    """The token with that id, whatever its state. Raises `MunimentError` if there is none."""
    for each in await store.credentials.listed("token"):
        if each.id == id:
            return each
    raise MunimentError(f"there is no token {id}; `muniment tokens list` shows those there are")


async def make_first_token(log: AuditLog) -> str | None:
    """The secret of a new token for everything, or None where there is a valid token already."""
    now = utc_now()
    if any(each.is_valid(now) for each in await log.store.credentials.listed("token")):
        return None
    issued = await create_token(log, name=_FIRST_NAME, scopes=tuple(Scope), tenant_id=None, now=now)
    return issued.secret


async def _record(
    log: AuditLog, action: str, what: Credential, actor: Actor | None, **more: Any
) -> None:
    await log.record(
        action,
        on_error="raise",
        tenant_id=what.tenant_id or SYSTEM_TENANT,
        actor=actor or Actor.system(),
        outcome=Outcome.SUCCESS,
        targets=[Target("token", what.id, what.name)],
        details={
            "scopes": list(what.scopes),
            "all_tenants": what.tenant_id is None,
            "expires_at": what.expires_at and what.expires_at.isoformat(),
            **more,
        },
    )
