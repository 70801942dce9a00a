"""What is remembered of credentials, and for how long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from muniment.errors import StoreUnavailable
from muniment.http.access import Caller, Scope
from muniment.http.auth.lookup import OUTAGE_SECONDS, REMEMBERED_SECONDS, Lookup
from muniment.http.auth.secrets import hash_of
from muniment.http.auth.tokens import create_token, revoke_token
from tests.http.auth.calling import Clock, Site


class _Credentials:
    """Counts how often the store is asked, and fails when told to."""

    def __init__(self, site: Site) -> None:
        self._find = site.log.store.credentials.find
        self.asked = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.was_asked = asyncio.Event()

    async def find(self, secret_hash: bytes) -> Any:
        self.asked += 1
        self.was_asked.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return await self._find(secret_hash)


@pytest.fixture
async def credentials(site: Site, monkeypatch: pytest.MonkeyPatch) -> _Credentials:
    """The store's credentials, watched."""
    watched = _Credentials(site)
    monkeypatch.setattr(site.log.store.credentials, "find", watched.find)
    return watched


async def _ask(site: Site, secret: str) -> Caller | None:
    return await site.lookup.caller("token", secret)


async def test_a_credential_is_asked_for_once_in_five_seconds(
    site: Site, credentials: _Credentials
) -> None:
    """Single posts come by the thousand."""
    token = await site.token(Scope.WRITE)
    for passed in (0.0, REMEMBERED_SECONDS - 0.01):
        site.clock.passed = passed
        assert await _ask(site, token)
    assert credentials.asked == 1
    site.clock.passed = REMEMBERED_SECONDS
    await _ask(site, token)
    assert credentials.asked == 2


async def test_many_callers_at_once_ask_once(site: Site, credentials: _Credentials) -> None:
    """Also when what was known has just got old."""
    token = await site.token(Scope.WRITE)
    found = await asyncio.gather(*(_ask(site, token) for _ in range(50)))
    assert None not in found
    assert credentials.asked == 1


async def test_a_caller_that_leaves_takes_nobody_with_it(
    site: Site, credentials: _Credentials
) -> None:
    """The others that wait for the same answer get it."""
    token = await site.token(Scope.WRITE)
    credentials.gate.clear()
    first = asyncio.create_task(_ask(site, token))
    await credentials.was_asked.wait()
    second = asyncio.create_task(_ask(site, token))
    first.cancel()
    credentials.gate.set()
    assert await second is not None


async def test_a_revoked_token_is_good_for_five_seconds_at_most(site: Site) -> None:
    """In a process that has just seen it; counted from before it was asked for."""
    issued = await create_token(site.log, name="n", scopes=[Scope.READ], tenant_id=None)
    assert await _ask(site, issued.secret)
    await revoke_token(site.log, issued.credential.id)
    site.clock.passed = REMEMBERED_SECONDS
    assert await _ask(site, issued.secret) is None
    assert REMEMBERED_SECONDS <= 5


async def test_a_token_expires_on_time_though_it_is_remembered(
    site: Site, credentials: _Credentials
) -> None:
    """Its end is known."""
    token = await site.token(Scope.READ, lifetime=timedelta(hours=1))
    assert await _ask(site, token)
    site.clock.ahead = 3_601
    assert await _ask(site, token) is None
    assert credentials.asked == 1


async def test_garbage_is_not_asked_for(site: Site, credentials: _Credentials) -> None:
    """What has not the form of a secret costs nothing."""
    for shown in ("", "x", "muniment_", "muniment_" + "a" * 42, "muniment_" + "a" * 44):
        assert await _ask(site, shown) is None
    assert credentials.asked == 0


async def test_what_is_remembered_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown tokens take no place, and the least lately asked for goes first."""
    monkeypatch.setattr("muniment.http.auth.lookup._REMEMBERED", 2)
    tokens = [await site.token(Scope.READ) for _ in range(3)]
    for token in tokens:
        await _ask(site, token)
        await _ask(site, "muniment_" + "a" * 43)
    assert [key[1] for key in site.lookup._known] == [hash_of(token) for token in tokens[1:]]


async def test_no_secret_is_in_memory(site: Site) -> None:
    """Hashes are enough to know one again."""
    token = await site.token(Scope.READ)
    await _ask(site, token)
    assert token[9:] not in repr(vars(site.lookup))


# --- while the store can't be reached


@pytest.fixture
async def lost(site: Site, credentials: _Credentials) -> str:
    """A token that was known before the store was lost."""
    token = await site.token(Scope.WRITE, Scope.READ)
    await _ask(site, token)
    credentials.error = StoreUnavailable("gone")
    site.clock.passed = REMEMBERED_SECONDS
    return token


async def test_what_was_valid_goes_on_writing(site: Site, lost: str) -> None:
    """And does nothing else: what it writes goes to the spool."""
    caller = await _ask(site, lost)
    assert caller is not None
    assert caller.scopes == {Scope.WRITE}


async def test_the_store_is_asked_again_every_second(
    site: Site, lost: str, credentials: _Credentials
) -> None:
    """Not for every request; and once it answers all is as before."""
    before = credentials.asked
    for _ in range(5):
        await _ask(site, lost)
    assert credentials.asked == before + 1
    credentials.error = None
    site.clock.passed += 1
    caller = await _ask(site, lost)
    assert caller is not None
    assert caller.scopes == {Scope.WRITE, Scope.READ}


async def test_it_does_not_go_on_for_ever(site: Site, lost: str) -> None:
    """After a quarter of an hour nobody knows any more what was revoked."""
    site.clock.passed = OUTAGE_SECONDS
    assert await _ask(site, lost)
    site.clock.passed = OUTAGE_SECONDS + 1.1
    with pytest.raises(StoreUnavailable):
        await _ask(site, lost)


async def test_what_can_not_write_waits_for_the_store(
    site: Site, credentials: _Credentials
) -> None:
    """As does what was not known before."""
    reader = await site.token(Scope.READ)
    await _ask(site, reader)
    unknown = await site.token(Scope.WRITE)
    credentials.error = StoreUnavailable("gone")
    site.clock.passed = REMEMBERED_SECONDS
    for token in (reader, unknown):
        with pytest.raises(StoreUnavailable):
            await _ask(site, token)


async def test_a_store_that_hangs_is_one_that_is_lost(
    site: Site, lost: str, credentials: _Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for as long as recording waits."""
    monkeypatch.setattr(site.log, "deadline", 0.01)
    credentials.error = None
    credentials.gate.clear()
    assert await _ask(site, lost)


async def test_each_process_finds_out_by_itself(site: Site) -> None:
    """Two memories over one store: a revocation reaches both."""
    clock = Clock()
    other = Lookup(site.log, clock=clock.now, monotonic=clock.monotonic)
    issued = await create_token(site.log, name="n", scopes=[Scope.READ], tenant_id=None)
    assert await _ask(site, issued.secret)
    await revoke_token(site.log, issued.credential.id)
    assert await other.caller("token", issued.secret) is None
