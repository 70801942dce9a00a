"""The contract of a store's credentials: who may come in over HTTP. No secret is kept, only hashes.

One row a token, one-use link or viewer session.
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

    `tenant_id` is None for all tenants; `expires_at` None for never. `person` is on whose behalf a
    link or session was made, as the host application named them.
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
    person: str | None = None


class Credentials(ABC):
    """Keeps credentials. Methods raise as those of a `Store` do."""

    @abstractmethod
    async def add(self, credential: Credential) -> None:
        """Keep a new credential, durably."""

    @abstractmethod
    async def find(self, secret_hash: bytes) -> Credential | None:
        """The credential with that hash, whatever its state."""

    @abstractmethod
    async def use(self, id: str, at: datetime) -> bool:
        """Mark a link as used; whether this call was the first to do so. MUST be atomic."""

    @abstractmethod
    async def revoke(self, id: str, at: datetime) -> bool:
        """Revoke it; whether there is such a credential that was not revoked yet."""

    @abstractmethod
    async def listed(self, kind: Kind = "token") -> Sequence[Credential]:
        """All of one kind, the oldest first."""

    @abstractmethod
    async def prune(self, before: datetime) -> int:
        """Remove links and sessions that expired before then; returns how many."""
