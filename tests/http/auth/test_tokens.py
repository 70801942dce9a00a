"""Tokens are made, renewed and revoked, and each of these is recorded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from muniment import AuditLog
from muniment.errors import InvalidConfig, MunimentError, NotDurable
from muniment.event import Actor, Target
from muniment.http.access import Scope
from muniment.http.auth.tokens import create_token, make_first_token, revoke_token, rotate_token
from muniment.sealing import utc_now

_DAY = timedelta(days=1)


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AuditLog]:
    """An empty log in each kind of store."""
    async with AuditLog.open(log_url, sequence=False) as opened:
        yield opened


async def _create(log: AuditLog, **fields: Any) -> Any:
    given: dict[str, Any] = {"name": "billing", "scopes": [Scope.READ], "tenant_id": "acme"}
    return await create_token(log, **(given | fields))


async def test_a_token_is_32_random_bytes_behind_our_name(log: AuditLog) -> None:
    """In base64url, never the same twice; and the store has its SHA-256 alone."""
    first, second = [await _create(log) for _ in range(2)]
    assert re.fullmatch(r"muniment_[A-Za-z0-9_-]{43}", first.secret)
    assert first.secret != second.secret
    assert first.credential.secret_hash == hashlib.sha256(first.secret.encode()).digest()
    kept = await log.store.credentials.find(first.credential.secret_hash)
    assert kept == first.credential


async def test_no_repr_shows_a_secret(log: AuditLog) -> None:
    """Neither of what is returned nor of what is kept."""
    issued = await _create(log)
    assert issued.secret[9:] not in f"{issued!r} {issued} {issued.credential!r}"


@pytest.mark.parametrize(("tenant_id", "recorded_in"), [("acme", "acme"), (None, "system")])
async def test_making_one_is_recorded(
    log: AuditLog, tenant_id: str | None, recorded_in: str
) -> None:
    """In the tenant that it opens: who made it, for what and how long; not the secret."""
    issued = await _create(
        log,
        tenant_id=tenant_id,
        scopes=[Scope.WRITE, Scope.ADMIN],
        lifetime=_DAY,
        actor=Actor.user("ann"),
    )
    (event,) = (await log.search(action="audit.token_create")).events
    assert (event.tenant_id, event.actor) == (recorded_in, Actor.user("ann"))
    assert event.targets == (Target("token", issued.credential.id, "billing"),)
    assert event.details["scopes"] == ["write", "admin"]
    assert event.details["all_tenants"] is (tenant_id is None)
    assert event.details["expires_at"] == issued.credential.expires_at.isoformat()
    assert issued.secret[9:] not in repr(event)


async def test_nobody_gets_a_token_that_is_not_recorded(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where recording fails, making one does."""

    async def lost(*_: object, **__: object) -> None:
        raise NotDurable

    monkeypatch.setattr(log, "record", lost)
    with pytest.raises(NotDurable):
        await _create(log)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"tenant_id": ""}, "tenant_id"),
        ({"scopes": []}, "scopes"),
        ({"lifetime": timedelta(0)}, "lifetime"),
    ],
)
async def test_a_bad_argument_is_named(log: AuditLog, fields: dict[str, Any], named: str) -> None:
    """And nothing is made."""
    with pytest.raises(InvalidConfig, match=f"^{named}: "):
        await _create(log, **fields)
    assert await log.store.credentials.listed() == []


async def test_rotating_gives_a_new_secret_for_the_same(log: AuditLog) -> None:
    """Name, scopes and tenant; as long from now on; the old one lasts for the grace."""
    made = utc_now() - 10 * _DAY
    old = (await _create(log, lifetime=30 * _DAY, now=made)).credential
    now = utc_now()
    new = (await rotate_token(log, old.id, grace=_DAY, now=now)).credential
    assert (new.name, new.scopes, new.tenant_id) == (old.name, old.scopes, old.tenant_id)
    assert new.expires_at == now + 30 * _DAY
    kept = await log.store.credentials.find(old.secret_hash)
    assert kept is not None
    assert kept.ends_at == now + _DAY
    assert new.secret_hash != old.secret_hash


async def test_rotating_is_recorded(log: AuditLog) -> None:
    """The new one, with what it stands for, and from when on the old one is over."""
    old = (await _create(log)).credential
    now = utc_now()
    new = (await rotate_token(log, old.id, grace=_DAY, now=now)).credential
    (rotated,) = (await log.search(action="audit.token_rotate")).events
    (revoked,) = (await log.search(action="audit.token_revoke")).events
    assert rotated.targets == (Target("token", new.id, "billing"),)
    assert rotated.details["in_place_of"] == old.id
    assert revoked.targets == (Target("token", old.id, "billing"),)
    assert revoked.details["holds_from"] == (now + _DAY).isoformat()


async def test_rotating_without_grace_ends_the_old_one_at_once(log: AuditLog) -> None:
    """As after a leak."""
    old = (await _create(log)).credential
    now = utc_now()
    await rotate_token(log, old.id, grace=timedelta(0), now=now)
    kept = await log.store.credentials.find(old.secret_hash)
    assert kept is not None
    assert not kept.is_valid(now)


@pytest.mark.parametrize("change", [revoke_token, rotate_token])
async def test_what_is_over_is_neither_rotated_nor_revoked(log: AuditLog, change: Any) -> None:
    """Nor what never was; nothing is recorded of it."""
    old = (await _create(log)).credential
    await revoke_token(log, old.id)
    with pytest.raises(MunimentError, match=f"{old.id} is expired or revoked"):
        await change(log, old.id)
    with pytest.raises(MunimentError, match="there is no token nobody"):
        await change(log, "nobody")
    assert len((await log.search(action="audit.token_*")).events) == 2


async def test_the_first_token_is_for_everything(log: AuditLog) -> None:
    """All tenants, all scopes; none is made while there is one that is good for something."""
    secret = await make_first_token(log)
    assert secret is not None
    (first,) = await log.store.credentials.listed()
    assert (first.tenant_id, set(first.scopes)) == (None, set(Scope))
    assert await make_first_token(log) is None
    await revoke_token(log, first.id)
    assert await make_first_token(log) is not None
