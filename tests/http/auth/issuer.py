"""An OpenID Connect issuer on loopback, with keys of its own."""

from __future__ import annotations

import hmac
import json
import threading
import time
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key

AUDIENCE: Final = "https://audit.example.com"


class Issuer:
    """Serves its metadata and its public keys, and signs. `asked` counts requests for the keys."""

    def __init__(self) -> None:
        self.keys: dict[str, RSAKey | ECKey | OKPKey] = {
            "rsa": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}),
            "ec": ECKey.generate_key("P-256", {"kid": "ec", "alg": "ES256"}),
            "ed": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
        }
        self.asked = 0
        self.fails = False
        self.claimed: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/realm"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(
        self,
        key_id: str = "rsa",
        algorithm: str = "RS256",
        *,
        key: Key | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A token for tenant acme and all scopes, unless the claims say otherwise."""
        now = int(time.time())
        body: dict[str, Any] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "u1",
            "iat": now,
            "exp": now + 600,
            "tenant_id": "acme",
            "scope": "openid muniment:read muniment:export muniment:write muniment:admin",
            **claims,
        }
        body = {name: value for name, value in body.items() if value is not None}
        head = {"alg": algorithm, "kid": key_id, **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.encode(head, body, key or self.keys[key_id], algorithms=[algorithm])

    def settings(self) -> dict[str, Any]:
        """The service's settings for it."""
        return {"oidc_issuer": self.url, "oidc_audience": AUDIENCE}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = issuer.answer(self.path)
                self.send_response(500 if issuer.fails else 200 if found else 404)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler

    def answer(self, path: str) -> dict[str, Any] | None:
        """What it serves under a path."""
        if path == "/realm/.well-known/openid-configuration":
            return {"issuer": self.claimed or self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/realm/keys":
            self.asked += 1
            shown = [key.as_dict(private=False) for key in self.keys.values()]
            # One that is there for others, and that nobody should trip over.
            return {"keys": [{"kty": "new", "kid": "new"}, *shown]}
        return None


def described(key: RSAKey | ECKey, **parameters: str) -> Any:
    """The same key, said to be for something."""
    return import_key({**key.as_dict(private=True), **parameters})


def signed_with_public_key(issuer: Issuer, key_id: str) -> str:
    """An HS256 token whose secret is a public key: what confuses a careless verifier."""
    public = issuer.keys[key_id].as_pem(private=False)
    _, body, _ = issuer.token().split(".")
    head = _base64(json.dumps({"alg": "HS256", "kid": key_id}).encode())
    return f"{head}.{body}.{_base64(hmac.digest(public, f'{head}.{body}'.encode(), 'sha256'))}"


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
