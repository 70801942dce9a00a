"""From a secret to its caller: asked of the store, and remembered for a few seconds."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from muniment.errors import StoreUnavailable
from muniment.event import Actor
from muniment.http.access import Caller, Scope
from muniment.http.auth.secrets import hash_of, looks_like
from muniment.log import AuditLog
from muniment.sealing import utc_now
from muniment.stores.credentials import Credential

REMEMBERED_SECONDS: Final = 5.0
"""Within so long a revocation holds in every process."""
OUTAGE_SECONDS: Final = 900.0
"""For so long what was valid may go on writing while the store can't be reached."""
_ASK_AGAIN_SECONDS: Final = 1.0
_REMEMBERED: Final = 4_096

Found = tuple[Caller, datetime | None]
"""A caller, and from when on it is none."""
_Key = tuple[str, bytes]


class _Known(msgspec.Struct, frozen=True):
    caller: Caller
    ends_at: datetime | None
    asked: float
    fresh_until: float


class Lookup:
    """Callers by their secrets. Only hashes are remembered, of at most 4,096 credentials."""

    def __init__(
        self,
        log: AuditLog,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[Caller | None]] = {}

    async def caller(self, kind: Literal["token", "session"], secret: str) -> Caller | None:
        """Whose secret it is, None if nobody's, or no longer. Raises `StoreUnavailable`."""
        if not looks_like(kind, secret):
            return None
        wanted = hash_of(secret)
        return await self.remembered((kind, wanted), lambda: self._find(kind, wanted))

    async def remembered(
        self, key: _Key, find: Callable[[], Awaitable[Found | None]]
    ) -> Caller | None:
        """What `find` finds, or found less than five seconds ago. Asked once at a time."""
        known = self._known.get(key)
        if known is not None and self._monotonic() < known.fresh_until:
            return known.caller if self._lasts(known.ends_at) else None
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, find))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)

    def forget(self, kind: Literal["token", "session"], secret: str) -> None:
        """Ask the store about this one again."""
        self._known.pop((kind, hash_of(secret)), None)

    def _asked(self, key: _Key, done: asyncio.Task[Caller | None]) -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # it is told to those who wait, if they still do

    async def _ask(self, key: _Key, find: Callable[[], Awaitable[Found | None]]) -> Caller | None:
        asked = self._monotonic()  # before, so that a revocation meanwhile is not missed for longer
        try:
            found = await find()
        except StoreUnavailable as error:
            return self._as_before(key, error)
        if found is None:
            self._known.pop(key, None)
            return None
        caller, ends_at = found
        self._keep(key, _Known(caller, ends_at, asked, asked + REMEMBERED_SECONDS))
        return caller if self._lasts(ends_at) else None

    def _as_before(self, key: _Key, error: StoreUnavailable) -> Caller | None:
        """Who it was before the store was lost: for writing, which goes to the spool meanwhile."""
        known = self._known.get(key)
        now = self._monotonic()
        if (
            known is None
            or now - known.asked > OUTAGE_SECONDS
            or Scope.WRITE not in known.caller.scopes
        ):
            raise error
        caller = replace(known.caller, scopes=frozenset({Scope.WRITE}))
        until = now + _ASK_AGAIN_SECONDS
        self._keep(key, _Known(caller, known.ends_at, known.asked, until))
        return caller if self._lasts(known.ends_at) else None

    def _keep(self, key: _Key, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _lasts(self, ends_at: datetime | None) -> bool:
        return ends_at is None or self._clock() < ends_at

    async def _find(self, kind: str, wanted: bytes) -> Found | None:
        credentials = self._log.store.credentials
        try:
            async with asyncio.timeout(self._log.deadline):
                found = await credentials.find(wanted)
        except TimeoutError:
            raise StoreUnavailable("the store did not say in time who is calling") from None
        if (
            found is None
            or found.kind != kind
            or not hmac.compare_digest(found.secret_hash, wanted)
        ):
            return None
        return caller_with(found), found.ends_at


def caller_with(credential: Credential) -> Caller:
    """Who calls with a credential of the store."""
    actor = Actor.service(credential.parent_id or credential.id, name=credential.name)
    if credential.person_id is not None:
        actor = Actor.user(credential.person_id, name=credential.person_name)
    return Caller(
        kind="session" if credential.kind == "session" else "token",
        id=credential.id,
        scopes=frozenset(map(Scope, credential.scopes)),
        tenant_id=credential.tenant_id,
        actor=actor,
    )
