"""Turns at the connections that searches may have: no tenant's many keep another's few waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from muniment.errors import StoreUnavailable

_Tenant = str | None
_TAKEN: Final = "as many searches are at work as may be; try again"


class Turns:
    """So many turns at once. A free one goes to whoever waits of the tenant that has the fewest.

    Of those that have as many, it is the one that waits longest. A tenant that is alone may have
    all of them. None, all tenants together, counts as one.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._had: Counter[_Tenant] = Counter()
        self._waiting: dict[_Tenant, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, tenant_id: _Tenant, seconds: float) -> AsyncIterator[None]:
        """A turn, waited for so long. Raises `StoreUnavailable`."""
        if self._left:
            self._left -= 1
            self._had[tenant_id] += 1
        else:
            await self._wait(tenant_id, seconds)
        try:
            yield
        finally:
            self._end(tenant_id)

    async def _wait(self, tenant_id: _Tenant, seconds: float) -> None:
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant_id, deque()).append(given)
        try:
            async with asyncio.timeout(seconds):
                await given
        except BaseException as error:
            if given.done() and not given.cancelled():
                self._end(tenant_id)  # it came as we left
            else:
                self._forget(tenant_id, given)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable(_TAKEN) from None
            raise

    def _end(self, tenant_id: _Tenant) -> None:
        """Give the turn to the next one."""
        self._had[tenant_id] -= 1
        if not self._had[tenant_id]:
            del self._had[tenant_id]
        while self._waiting:
            following = min(self._waiting, key=lambda each: self._had[each])
            waiting = self._waiting.pop(following)
            given = waiting.popleft()
            if waiting:
                self._waiting[following] = waiting  # behind the others
            if not given.done():  # as it is of who is just leaving
                given.set_result(None)
                self._had[following] += 1
                return
        self._left += 1

    def _forget(self, tenant_id: _Tenant, given: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(tenant_id, deque())
        if given in waiting:
            waiting.remove(given)
            if not waiting:
                del self._waiting[tenant_id]
