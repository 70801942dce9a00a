"""Who is calling, and what that caller may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from muniment.event import Actor, Context
from muniment.http.problems import Refusal

SCOPE_KEY: Final = "scope"
"""The key of a route handler's `opt` that names the `Scope` it asks for, or `PUBLIC`."""
PUBLIC: Final = "public"
COOKIE_KEY: Final = "cookie"
"""The key of `opt` that lets a viewer session call a handler that is no GET: `True`."""


class Scope(StrEnum):
    """What a credential is good for. None includes another one."""

    WRITE = "write"
    READ = "read"
    EXPORT = "export"
    ADMIN = "admin"


SESSION_SCOPES: Final = frozenset({Scope.READ, Scope.EXPORT})
"""All that a viewer link or session may be good for: they change nothing."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever showed a credential.

    `id` names the credential and may be logged. `tenant_id` is the one tenant it is bound to, None
    for all. `actor` is as whom the caller's own reading is recorded, `context` where from.
    """

    kind: Literal["token", "oidc", "session"]
    id: str
    scopes: frozenset[Scope]
    tenant_id: str | None
    actor: Actor
    context: Context = Context()

    def require(self, scope: Scope) -> None:
        """Raise a 403 unless the credential has that scope."""
        if scope not in self.scopes:
            raise Refusal(403, "forbidden", f"This needs the scope {scope}, which you lack.")

    def tenant(self, given: str | None) -> str | None:
        """The tenant that is meant, None for all. Raises a 403 for one that is not the caller's."""
        if self.tenant_id is None or given in {None, self.tenant_id}:
            return self.tenant_id or given
        raise Refusal(
            403, "forbidden", "tenant_id: your credential is for another tenant.", field="tenant_id"
        )
