"""Viewer sessions: read-only, for an hour, in a cookie that scripts can't read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from litestar import Request

from muniment.event import SYSTEM_TENANT, Outcome
from muniment.http.access import SESSION_SCOPES, Caller, Scope
from muniment.http.auth.identifying import SESSION_COOKIE
from muniment.http.auth.lookup import caller_with
from muniment.http.auth.secrets import issue
from muniment.sealing import utc_now

if TYPE_CHECKING:  # the service has the sessions' identifier
    from muniment.http.service import Service

SIGN_IN_ACTION: Final = "audit.sign_in"
SIGN_OUT_ACTION: Final = "audit.sign_out"
_KEPT_AFTERWARDS: Final = timedelta(days=1)
CLEAN: Final = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
"""Headers of answers to requests that hold a secret: it goes no further."""


async def start_session(
    service: Service,
    request: Request[Any, Any, Any],
    *,
    name: str,
    scopes: Collection[Scope],
    tenant_id: str | None,
    shown: dict[str, str],
    **rest: Any,
) -> dict[str, str]:
    """The headers that start a new session; what of the scopes would change anything is left out.

    `shown` is what it is begun with, the `kind` and `id` of a credential. `rest` are the session's
    own `parent_id`, `person_id` and `person_name`. Removes what has expired for long.
    Raises as `AuditLog.record` does: nobody gets a session that is not recorded.
    """
    now = utc_now()
    lifetime = service.settings.session_lifetime
    issued = issue(
        "session",
        name=name,
        scopes=SESSION_SCOPES.intersection(scopes),
        tenant_id=tenant_id,
        created_at=now,
        expires_at=now + lifetime,
        **rest,
    )
    await service.log.store.credentials.add(issued.credential)
    await service.log.store.credentials.prune(now - _KEPT_AFTERWARDS)
    await _record(service, request, SIGN_IN_ACTION, caller_with(issued.credential), shown=shown)
    return _cookie(service, request, issued.secret, int(lifetime.total_seconds()))


async def end_session(service: Service, request: Request[Any, Any, Any]) -> dict[str, str]:
    """The headers that make a browser forget its session, which has ended, and that is recorded.

    Raises as `AuditLog.record` does, once it has ended.
    """
    secret = request.cookies.get(SESSION_COOKIE, "")
    lookup = service.identifier.lookup
    caller = await lookup.caller("session", secret)
    if caller is not None:
        has_ended = await service.log.store.credentials.revoke(caller.id, utc_now())
        lookup.forget("session", secret)
        if has_ended:
            await _record(service, request, SIGN_OUT_ACTION, caller)
    return _cookie(service, request, "", 0)


async def _record(
    service: Service, request: Request[Any, Any, Any], action: str, caller: Caller, **more: Any
) -> None:
    await service.log.record(
        action,
        on_error="raise",
        tenant_id=caller.tenant_id or SYSTEM_TENANT,
        actor=caller.actor,
        outcome=Outcome.SUCCESS,
        context=service.identifier.context_of(request),
        details={**more, "credential": {"kind": caller.kind, "id": caller.id}},
    )


def _cookie(
    service: Service, request: Request[Any, Any, Any], value: str, seconds: int
) -> dict[str, str]:
    """A Set-Cookie header (RFC 6265; Partitioned as CHIPS has it)."""
    parts = [f"{SESSION_COOKIE}={value}", f"Path={root_of(request) or '/'}", f"Max-Age={seconds}"]
    parts.append("HttpOnly")
    if service.settings.frame_ancestors:
        # In a frame of another site nothing else is sent, and that only over TLS.
        parts += ["SameSite=None", "Secure", "Partitioned"]
    else:
        parts.append("SameSite=Lax")
        if service.identifier.is_secure(request):
            parts.append("Secure")
    return {"Set-Cookie": "; ".join(parts), **CLEAN}


def root_of(request: Request[Any, Any, Any]) -> str:
    """The path that the application is mounted at, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")
