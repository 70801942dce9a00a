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


Holder = tuple[str, str]
"""Whose the room is that a request takes: a tenant's, or that of a caller for all tenants."""


class Scope(StrEnum):
    """What a credential is good for. None includes another one."""

    WRITE = "write"
    READ = "read"
    EXPORT = "export"
    ADMIN = "admin"


SESSION_SCOPES: Final = frozenset({Scope.READ, Scope.EXPORT})
"""All that a viewer link or session may be good for: they change nothing."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever showed a credential: of the service's, or of the host that it is mounted in.

    `id` names the credential and may be logged; two callers of a host's have two ids. `tenant_id`
    is the one tenant it is bound to, None for all. `actor` is as whom the caller's own reading is
    recorded, `context` where from, which the service finds out itself.
    """

    id: str
    scopes: frozenset[Scope]
    tenant_id: str | None
    actor: Actor
    kind: Literal["token", "oidc", "session", "host"] = "host"
    context: Context = Context()

    @property
    def holder(self) -> Holder:
        """Whose the room is that this caller takes."""
        if self.tenant_id is not None:
            return "tenant", self.tenant_id
        return self.kind, self.id

    def require(self, scope: Scope) -> None:
        """Raise a 403 unless the credential has that scope."""
        if scope not in self.scopes:
            raise Refusal(403, "forbidden", f"This needs the scope {scope}, which you lack.")

    def tenant(self, given: str | None) -> str | None:
        """The tenant that is meant, None for all. Raises a 403 for one that is not the caller's."""
        if self.tenant_id is None:
            return given
        if given in {None, self.tenant_id}:
            return self.tenant_id
        raise Refusal(
            403, "forbidden", "tenant_id: your credential is for another tenant.", field="tenant_id"
        )
