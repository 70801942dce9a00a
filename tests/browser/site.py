"""A trail that is really served, and how one gets into its viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import httpx

from tests.browser.trail import KEY, RANGE
from tests.scripted import LONG
from tests.servers.muniment import PatientlyServed

_SAME_ORIGIN: Final = {"Sec-Fetch-Site": "same-origin"}


class Site:
    """`muniment serve` over a SQLite file; use it in a `with`.

    `token` is one for everything, if there is one already; else it is the first token. `port` 0 is
    a free one.
    """

    def __init__(
        self, database: Path, token: str | None = None, *, port: int = 0, **settings: str
    ) -> None:
        given = {"MUNIMENT_SIGNING_KEY": KEY.text(), **settings}
        self._served = PatientlyServed(f"sqlite:///{database}", "--port", port, **given)
        self.url, self.port = self._served.url, self._served.port
        self.token = token or self._served.token or ""
        headers = {"Authorization": f"Bearer {self.token}"}
        self._given: dict[str, Any] = {"base_url": self.url, "timeout": LONG, "trust_env": False}
        self._client = httpx.Client(headers=headers, **self._given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._served.close()

    def record(self, action: str, tenant_id: str, **fields: Any) -> str:
        """The event_id of an event that is now recorded; `fields` are in wire form."""
        body = {"action": action, "tenant_id": tenant_id, **fields}
        made = self._client.post("/v1/events", json=body)
        assert made.status_code == 201, made.text
        return str(made.json()["event_id"])

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """The events that the API finds, newest first."""
        found = self._client.get("/v1/events", params=filters)
        assert found.status_code == 200, found.text
        return list(found.json()["events"])

    def link(self, tenant_id: str) -> str:
        """The URL of a new viewer link, as a host application gets it."""
        body = {"tenant_id": tenant_id, "person": {"id": "p1", "name": "Pat"}}
        made = self._client.post("/v1/viewer-links", json=body)
        assert made.status_code == 201, made.text
        return str(made.json()["url"])

    def cookie(self, tenant_id: str | None = None) -> str:
        """The cookie of a new viewer session: of that tenant by a link, of all by the token."""
        with httpx.Client(**self._given) as client:
            if tenant_id is None:
                data = {"token": self.token, "next": "/"}
                answer = client.post("/sign-in", data=data, headers=_SAME_ORIGIN)
            else:
                answer = client.get(self.link(tenant_id))
        assert answer.status_code == 303, answer.text
        return answer.headers["Set-Cookie"].partition(";")[0]


def query(**given: str) -> str:
    """The query of a page about the made-up day."""
    return "?" + urlencode({**RANGE, **given})
