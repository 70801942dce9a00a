"""The contract of a store's credentials: who may come in over HTTP. No secret is kept, only hashes.

One row a token, one-use link or viewer session. What was revoked or used stays so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

Kind = Literal["token", "link", "session"]


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential as it is kept. `secret_hash` is the SHA-256 of the secret, 32 bytes.

    `tenant_id` is None for all tenants. It is good for nothing from `expires_at` on, nor from
    `revoked_at` on, which may lie ahead; None is never, and only tokens may last for ever. A link
    is used once, at `used_at`. `parent_id` is the token that it was made with; `person_id` and
    `person_name` are on whose behalf, as the host application named them.
    """

    id: str
    kind: Kind
    secret_hash: bytes
    name: str
    scopes: tuple[str, ...]
    tenant_id: str | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None
    parent_id: str | None = None
    person_id: str | None = None
    person_name: str | None = None

    @property
    def ends_at(self) -> datetime | None:
        """From when on it is good for nothing; None: never."""
        return min((t for t in (self.expires_at, self.revoked_at) if t is not None), default=None)

    def is_valid(self, at: datetime) -> bool:
        """Whether it is good for something at that time."""
        ends_at = self.ends_at
        return self.used_at is None and (ends_at is None or at < ends_at)


class Credentials(ABC):
    """Keeps credentials. Methods raise as those of a `Store` do."""

    @abstractmethod
    async def add(self, credential: Credential) -> None:
        """Keep a new credential, durably. MUST refuse an id or a hash that is there already."""

    @abstractmethod
    async def find(self, secret_hash: bytes) -> Credential | None:
        """The credential with that hash, whatever its state.

        MUST give what has a parent the earlier `revoked_at` and `expires_at` of the two: it ends
        with the token that it was made with.
        """

    @abstractmethod
    async def use(self, id: str, at: datetime) -> bool:
        """Mark a link as used; whether this call was the first to, and in time. MUST be atomic."""

    @abstractmethod
    async def revoke(self, id: str, at: datetime) -> bool:
        """Revoke it from `at` on; whether there is one that would have been good for longer.

        MUST never put off what was revoked before.
        """

    @abstractmethod
    async def listed(self, kind: Kind = "token") -> Sequence[Credential]:
        """All of one kind as they are kept, the oldest first."""

    @abstractmethod
    async def prune(self, before: datetime) -> int:
        """Remove links and sessions that expired before then, and now; returns how many."""
