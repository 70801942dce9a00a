"""What is the same for every page: headers, links, language, problems."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib.resources import files

import httpx
import pytest
from jinja2 import UndefinedError

from muniment.http.access import Scope
from muniment.http.viewer.rendering import _environment
from tests.http.api.calling import Api, running

_PAGE = {"Accept": "text/html"}
_PAGES = ("/", "/live", "/sign-in", "/events/nothing", "/nothing", "/?q=colour:red")


@pytest.fixture
async def viewer(sqlite_url: str) -> AsyncIterator[Api]:
    """The service over an empty log, for a caller that may do anything."""
    async with running(sqlite_url) as api:
        yield api


class _Markup(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def _directives(answer: httpx.Response) -> dict[str, str]:
    policy = answer.headers["content-security-policy"]
    return dict(part.strip().partition(" ")[::2] for part in policy.split(";"))


@pytest.mark.parametrize("path", _PAGES)
async def test_every_page_is_fenced_in(viewer: Api, path: str) -> None:
    """Nothing but our own files, in no frame, kept by no cache."""
    answer = await viewer.get(path, headers=_PAGE)
    assert answer.headers["content-type"].startswith("text/html")
    policy = _directives(answer)
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] in {"same-origin", "no-referrer"}
    assert "camera=()" in answer.headers["permissions-policy"]


@pytest.mark.parametrize("path", _PAGES)
async def test_no_page_needs_what_its_policy_forbids(viewer: Api, path: str) -> None:
    """No script or style within the page, but data."""
    for tag, attributes in _Markup((await viewer.get(path, headers=_PAGE)).text).elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "style"
        if tag == "script":
            assert "src" in attributes or attributes.get("type") == "application/json"


@pytest.mark.parametrize("path", _PAGES)
async def test_every_page_can_be_found_ones_way_on(viewer: Api, path: str) -> None:
    """One main heading, landmarks, a way past the navigation, names on what has no text."""
    text = (await viewer.get(path, headers=_PAGE)).text
    elements = _Markup(text).elements
    tags = [tag for tag, _ in elements]
    assert [tags.count(tag) for tag in ("h1", "main")] == [1, 1]
    assert tags[: tags.index("body")].count("title") == 1
    assert 'href="#content"' in text
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    for tag, attributes in elements:
        if tag == "input" and attributes.get("type") != "hidden":
            assert attributes.get("id") in labelled or attributes.get("aria-label")


async def test_an_embedding_application_is_let_in_by_name(sqlite_url: str) -> None:
    """`frame_ancestors` says whose pages may show the viewer in a frame."""
    async with running(sqlite_url, frame_ancestors="https://app.example") as api:
        answer = await api.get("/", headers=_PAGE)
    assert _directives(answer)["frame-ancestors"] == "https://app.example"


@pytest.mark.parametrize(
    ("query", "accepted", "lang"),
    [("", "zh-CN,zh;q=0.9", "zh"), ("", "de", "en"), ("?lang=zh", "en", "zh")],
)
async def test_a_page_speaks_the_readers_language(
    viewer: Api, query: str, accepted: str, lang: str
) -> None:
    """The one of the URL, else the browser's."""
    answer = await viewer.get(f"/{query}", headers={**_PAGE, "Accept-Language": accepted})
    assert f'<html lang="{lang}"' in answer.text


async def test_a_language_that_was_chosen_stays(viewer: Api) -> None:
    """Every link within the viewer keeps it, and one of them leads to the other language."""
    text = (await viewer.get("/?lang=zh", headers=_PAGE)).text
    links = re.findall(r'<a [^>]*href="(/[^"]*)"', text)
    assert len(links) > 5
    [switch] = [link for link in links if "lang=zh" not in link]
    assert "lang=en" in switch


async def test_what_is_wrong_is_told_on_a_page(viewer: Api) -> None:
    """A person gets a page that says what happened and leads on; a program the problem itself."""
    page = await viewer.get("/nothing", headers=_PAGE)
    plain = await viewer.get("/nothing", headers={"Accept": "application/json"})
    assert (page.status_code, plain.status_code) == (404, 404)
    assert 'href="/"' in page.text
    assert plain.headers["content-type"] == "application/problem+json"


async def test_a_problem_repeats_nothing_as_markup(viewer: Api) -> None:
    """What was asked for comes back as text, if at all."""
    page = await viewer.get("/events/<img src=x onerror=harm()>", headers=_PAGE)
    assert page.status_code == 404
    assert "<img src=x" not in page.text


async def test_whoever_is_not_signed_in_is_led_there_and_back(viewer: Api) -> None:
    """With the page that was asked for."""
    viewer.headers = {}
    answer = await viewer.get("/?q=outcome:denied", headers=_PAGE)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=/%3Fq%3Doutcome%3Adenied"


async def test_a_credential_that_may_not_read_is_told_so(viewer: Api) -> None:
    """Not led to sign in again and again."""
    viewer.headers = await viewer.token(Scope.WRITE)
    answer = await viewer.get("/", headers=_PAGE)
    assert answer.status_code == 403
    assert "<h1>" in answer.text


def test_every_template_can_be_read() -> None:
    """None has a mistake in its syntax."""
    environment = _environment()
    names = [f.name for f in (files("muniment.http.viewer") / "templates").iterdir()]
    assert len(names) > 8
    for name in names:
        environment.get_template(name)


def test_a_name_that_a_template_does_not_know_is_an_error() -> None:
    """A misspelt name shows nothing otherwise."""
    with pytest.raises(UndefinedError):
        _environment().from_string("{{ evnt }}").render()


def test_text_in_a_template_is_escaped() -> None:
    """Without being asked to."""
    assert _environment().from_string("{{ x }}").render(x="<b>\"'") == "&lt;b&gt;&#34;&#39;"
