"""The service inside another ASGI application, below a path of its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from litestar import Litestar, asgi, get
from litestar.types import Receive, Scope, Send

from muniment import AuditLog
from muniment.http import make_app
from muniment.http.auth.tokens import make_first_token

_PREFIX = "/audit"


def _keeping_the_path(app: Any) -> Any:
    """A host that leaves the path whole, as ASGI has it, and Starlette does."""

    async def host(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith(_PREFIX)
        await app({**scope, "root_path": _PREFIX}, receive, send)

    return host


def _cutting_the_path(app: Any) -> Any:
    """A host that cuts its own part off the path."""

    async def host(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix(_PREFIX) or "/"
        inner = {"path": path, "raw_path": path.encode(), "root_path": _PREFIX}
        await app({**scope, **inner}, receive, send)

    return host


def _litestar(app: Any) -> Any:
    """A host that is a Litestar application with pages of its own."""

    @asgi(_PREFIX, is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = _PREFIX
        await app(scope, receive, send)

    @get("/", sync_to_thread=False)
    def home() -> str:
        return "the host's own"

    return Litestar([mounted, home], logging_config=None)


@pytest.fixture(params=[_keeping_the_path, _cutting_the_path, _litestar])
async def browser(
    request: pytest.FixtureRequest, sqlite_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to a host with the service below /audit, with a token for everything."""
    async with AuditLog.open(sqlite_url) as log:
        token = await make_first_token(log)
        transport = httpx.ASGITransport(app=request.param(make_app(log)))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://host.example", headers=headers
        ) as client:
            yield client


class _Links(HTMLParser):
    """The addresses that a page leads to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]


async def test_the_api_is_below_the_path_it_is_mounted_at(browser: httpx.AsyncClient) -> None:
    """Recording, reading and the description work there as anywhere."""
    event = {"action": "login", "tenant_id": "acme"}
    posted = await browser.post(f"{_PREFIX}/v1/events", json=event)
    assert posted.status_code == 201
    found = await browser.get(f"{_PREFIX}/v1/events/{posted.json()['event_id']}")
    assert found.status_code == 200
    assert (await browser.get(f"{_PREFIX}/schema")).status_code == 200


async def test_a_viewer_link_leads_below_the_path(browser: httpx.AsyncClient) -> None:
    """A link is made, and what it opens, with that path; the session's cookie goes there alone."""
    made = await browser.post(f"{_PREFIX}/v1/viewer-links", json={"tenant_id": "acme"})
    link = made.json()["url"]
    assert urlsplit(link).path == f"{_PREFIX}/enter"
    opened = await browser.get(link)
    assert urlsplit(opened.headers["location"]).path == f"{_PREFIX}/"
    assert f"path={_PREFIX}" in opened.headers["set-cookie"].lower()


async def test_every_link_of_the_viewer_leads_somewhere(browser: httpx.AsyncClient) -> None:
    """Pages, styles and scripts are found from the page, below the path and nowhere else."""
    event = {"action": "login", "tenant_id": "acme"}
    posted = await browser.post(f"{_PREFIX}/v1/events", json=event)
    pages = ("/", f"/events/{posted.json()['event_id']}", "/live")
    seen: set[str] = set()
    for page in pages:
        answer = await browser.get(_PREFIX + page, params={"tenant_id": "acme"})
        assert answer.status_code == 200, page
        links = _Links()
        links.feed(answer.text)
        seen |= {urljoin(str(answer.url), link).partition("#")[0] for link in links.found}
    local = {link for link in seen if urlsplit(link).netloc == "host.example"}
    assert any("/static/" in link for link in local)
    for link in sorted(local):
        assert urlsplit(link).path.startswith(f"{_PREFIX}/"), link
        assert (await browser.get(link)).status_code in {200, 303}, link


def test_a_host_logs_as_it_did(sqlite_url: str) -> None:
    """Making the application sets up no logging: no handler is added, no level set."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    make_app(AuditLog.open(sqlite_url))
    assert (root.handlers, root.level) == before
