"""The viewer's own CSS and JavaScript."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from muniment.http.viewer.assets import assets, version
from tests.http.api.calling import Api, running

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_ADDRESS = re.compile(r"""(?:https?:)?//[\w.-]+\.\w+""")
_IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["']([^"']+)["']""")


@pytest.fixture
async def api(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over an empty log; nobody is signed in."""
    async with running(sqlite_url) as found:
        found.headers = {}
        yield found


async def test_anybody_gets_them(api: Api) -> None:
    """The sign-in page needs them too, each as what it is."""
    for name, asset in assets().items():
        answer = await api.get(f"/static/{version()}/{name}")
        assert answer.status_code == 200
        assert answer.content == asset.content
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind == _TYPES[name.rpartition(".")[2]]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_they_are_kept_for_ever_under_the_name_of_their_version(api: Api) -> None:
    """And not at all under another one, while instances are exchanged."""
    kept = (await api.get(f"/static/{version()}/base.css")).headers["cache-control"]
    other = (await api.get("/static/0123456789ab/base.css")).headers["cache-control"]
    assert "immutable" in kept
    assert other == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "../templates/base.html",
        "..%2ftemplates%2fbase.html",
        "%2e%2e/templates/base.html",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "verify/../../__init__.py",
        "verify",
        "nothing.css",
        "base.css%00",
        "..\\__init__.py",
    ],
)
async def test_nothing_else_is_served(api: Api, path: str) -> None:
    """Whatever is asked for, only files that are in the directory are there."""
    assert (await api.get(f"/static/{version()}/{path}")).status_code == 404


def test_they_load_nothing_from_elsewhere() -> None:
    """No address of another host, and every import is a file beside them."""
    for name, asset in assets().items():
        text = asset.content.decode()
        addresses = [a for a in _ADDRESS.findall(text) if "www.w3.org" not in a]
        assert addresses == [], name
        for imported in _IMPORT.findall(text) if name.endswith(".js") else ():
            directory = name.rpartition("/")[0]
            parts: list[str] = directory.split("/") if directory else []
            for part in imported.split("/"):
                if part == "..":
                    parts.pop()
                elif part != ".":
                    parts.append(part)
            assert "/".join(parts) in assets(), f"{name}: {imported}"


def test_scripts_make_no_markup_of_text() -> None:
    """Only the live list takes markup, and that is the service's own."""
    takes = [name for name, a in assets().items() if b"innerHTML" in a.content]
    assert takes == ["feed.js"]
    assert [name for name, a in assets().items() if b"eval(" in a.content] == []
