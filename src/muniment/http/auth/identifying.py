"""From a request to its `Caller`, or a 401: the one place where credentials are looked at.

Closed by default: a route that does not say in its `opt` who may call it is refused to everybody.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from msgspec.structs import replace

from muniment.checks import check_id
from muniment.event import Context
from muniment.http.access import COOKIE_KEY, PUBLIC, SCOPE_KEY, Caller, Scope
from muniment.http.auth.lookup import Lookup
from muniment.http.auth.oidc import Issuer
from muniment.http.auth.secrets import TOKEN_PREFIX, hash_of
from muniment.http.limits import count_to
from muniment.http.problems import AGAIN, Refusal, refusal_of
from muniment.http.settings import ServiceSettings
from muniment.log import AuditLog
from muniment.salvage import salvage_id, salvage_text

SESSION_COOKIE: Final = "muniment_session"
_CALLER: Final = "muniment.caller"
_SAFE: Final = frozenset({"GET", "HEAD"})
_OF_A_BROWSER: Final = frozenset({"cookie", "origin", "sec-fetch-site"})
"""Headers of which a browser's request that changes something has one at least."""

_Connection = ASGIConnection[Any, Any, Any, Any]
_logger: Final = logging.getLogger("muniment.http")

Identify = Callable[[Mapping[str, Any]], Awaitable[Caller | None]]
"""A host's own identification: from the ASGI scope of a request to who is calling.

None leaves it to the service's own tokens and sessions. It is asked again while a stream is open,
with the same scope. What it raises is logged: an `OSError` is a 503, any other error a 500.
"""


class Identifier:
    """Knows callers by what they show: a token, or the cookie of a viewer session.

    `identify` is the host's own way, which comes first.
    """

    def __init__(
        self, log: AuditLog, settings: ServiceSettings, identify: Identify | None = None
    ) -> None:
        self.lookup = Lookup(log)
        self._identify = identify
        self._issuer = Issuer(settings) if settings.oidc_issuer else None
        self._settings = settings

    async def identify(self, connection: _Connection) -> Caller:
        """Who is calling. Raises a 401 without a valid credential, and never says why."""
        if self._identify is not None:
            found = await _asked(self._identify, connection.scope)
            if found is not None:
                return replace(found, kind="host", context=self.context_of(connection))
        shown = connection.headers.get("authorization")
        if shown is not None:
            scheme, _, secret = shown.partition(" ")
            secret = secret.strip()
            caller = await self._bearer(secret) if scheme.lower() == "bearer" else None
        else:
            shown = connection.cookies.get(SESSION_COOKIE)
            caller = await self.lookup.caller("session", shown) if shown else None
        if caller is None:
            raise unauthorized(shown=bool(shown))
        return replace(caller, context=self.context_of(connection))

    async def _bearer(self, secret: str) -> Caller | None:
        if secret.startswith(TOKEN_PREFIX):
            return await self.lookup.caller("token", secret)
        issuer = self._issuer
        if issuer is None:
            return None
        return await self.lookup.remembered(("oidc", hash_of(secret)), lambda: issuer.find(secret))

    def context_of(self, connection: _Connection) -> Context:
        """Where a request comes from, as an event holds it."""
        headers = connection.headers
        ip = connection.client.host if connection.client else None
        if self._settings.behind_tls:
            ip = _forwarded_for(headers.get("x-forwarded-for")) or ip
        return Context(
            ip=salvage_id(ip),
            user_agent=salvage_text(headers.get("user-agent")),
            request_id=salvage_id(headers.get("x-request-id") or None),
        )

    def is_same_origin(self, connection: _Connection) -> bool:
        """Whether a browser sent the request from one of our own pages.

        By Sec-Fetch-Site (W3C Fetch Metadata), else by Origin (RFC 6454, section 7); a request
        with neither is not.
        """
        site = connection.headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        origin = connection.headers.get("origin")
        return origin is not None and origin in self._own_origins(connection)

    def _own_origins(self, connection: _Connection) -> set[str]:
        host = connection.headers.get("host", "")
        scheme = "https" if self.is_secure(connection) else "http"
        origins = {f"{scheme}://{host}"}
        if self._settings.public_url:
            public = urlsplit(self._settings.public_url)
            origins.add(f"{public.scheme}://{public.netloc}")
        return origins

    def is_secure(self, connection: _Connection) -> bool:
        """Whether the request came over TLS, at the latest up to a proxy before us."""
        return self._settings.behind_tls or connection.scope["scheme"] in {"https", "wss"}


async def admit(connection: _Connection, handler: BaseRouteHandler) -> None:
    """The guard of every route: raises unless the caller may call it."""
    wanted = handler.opt.get(SCOPE_KEY)
    if _only_tells_methods(handler):
        return
    if wanted == PUBLIC:
        count_to(connection.scope, None)
        return
    if not isinstance(wanted, Scope):
        raise Refusal(500, "internal", "This route does not say who may call it, so nobody may.")
    identifier: Identifier = connection.app.state.service.identifier
    try:
        caller = await identifier.identify(connection)
    except Refusal as refusal:
        if refusal.problem.status == 401 and _is_page(connection):
            raise _to_sign_in(connection) from None
        raise
    if connection.scope.get("method") not in _SAFE:
        _refuse_forged(caller, connection, handler, identifier)
    caller.require(wanted)
    count_to(connection.scope, caller.holder)
    cast("dict[str, Any]", connection.scope)[_CALLER] = caller


async def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Who is calling. Raises a 401 without a valid credential."""
    known: Caller | None = cast("dict[str, Any]", request.scope).get(_CALLER)
    if known is not None:
        return known
    identifier: Identifier = request.app.state.service.identifier
    return await identifier.identify(request)


async def is_welcome(request: Request[Any, Any, Any], scope: Scope) -> bool:
    """Whether the credential of a request that is long at work is good still."""
    identifier: Identifier = request.app.state.service.identifier
    try:
        (await identifier.identify(request)).require(scope)
    except Refusal:
        return False
    return True


def _refuse_forged(
    caller: Caller, connection: _Connection, handler: BaseRouteHandler, identifier: Identifier
) -> None:
    """Raise a 403 for what another site may have a browser do with a cookie that it adds itself.

    What a host knows its callers by may be a cookie, too. A request that shows no sign of a
    browser has it from a program, which no other site can make ask.
    """
    if caller.kind not in {"session", "host"}:
        return
    is_ours = identifier.is_same_origin(connection)
    if caller.kind == "session" and not (is_ours and handler.opt.get(COOKIE_KEY)):
        raise Refusal(403, "forbidden", "A viewer session may not do this from here.")
    if not is_ours and not _OF_A_BROWSER.isdisjoint(connection.headers.keys()):
        raise Refusal(403, "forbidden", "A browser may do this from a page of this site only.")


async def _asked(identify: Identify, scope: Any) -> Caller | None:
    """Whom the host knows. Raises a 500 or 503 that tells nothing of what went wrong there."""
    try:
        caller = await identify(scope)
        if caller is not None:
            check_id("id", caller.id)
            if caller.tenant_id is not None:
                check_id("tenant_id", caller.tenant_id)
    except Exception as error:
        _logger.exception("the host's identification failed")
        if isinstance(error, OSError):
            raise Refusal(
                503, "host-unavailable", "It can't be found out now who you are.", headers=AGAIN
            ) from None
        raise refusal_of(RuntimeError()) from None
    return caller


def unauthorized(*, shown: bool) -> Refusal:
    """A 401, the same for every credential that is not valid (RFC 6750, section 3)."""
    challenge = 'Bearer realm="muniment"' + (', error="invalid_token"' if shown else "")
    return Refusal(
        401,
        "unauthorized",
        "Show a valid token: Authorization: Bearer …",
        headers={"WWW-Authenticate": challenge},
    )


def _only_tells_methods(handler: BaseRouteHandler) -> bool:
    """Litestar's own answer to OPTIONS names the methods of a route, and nothing else."""
    return getattr(handler, "http_methods", None) == {"OPTIONS"} and not handler.opt


def _is_page(connection: _Connection) -> bool:
    """Whether a person's browser asks for a page of the viewer."""
    return (
        connection.scope.get("method") == "GET"
        and "text/html" in connection.headers.get("accept", "")
        and not connection.scope["path"].startswith("/v1/")
    )


def _to_sign_in(connection: _Connection) -> Refusal:
    path = quote(connection.scope["path"], safe="/~:@!$'()*,;")
    query = connection.scope.get("query_string", b"").decode("ascii", "replace")
    following = quote(f"{path}?{query}" if query else path, safe="/")
    root = connection.scope.get("root_path", "").rstrip("/")
    return Refusal(
        303,
        "sign-in",
        "Sign in to see this page.",
        headers={"Location": f"{root}/sign-in?next={following}", "Cache-Control": "no-store"},
    )


def _forwarded_for(header: str | None) -> str | None:
    """The address that the proxy before us was called from: the last it names."""
    last = (header or "").rpartition(",")[2].strip()
    try:
        return str(ip_address(last))
    except ValueError:
        return None
