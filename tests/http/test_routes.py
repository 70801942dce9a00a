from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.routes import HTTPRoute

from muniment import AuditLog
from muniment.http import make_app
from muniment.http.access import PUBLIC, SCOPE_KEY, Scope
from muniment.http.api.describing import OPERATION_KEY
from muniment.http.api.wire import Find
from muniment.http.problems import MEDIA_TYPE
from tests.http.api.calling import Api, running

# Never opened: its routes alone are of interest.
_APP: Final = make_app(AuditLog.open("sqlite:///never-opened.db"))
_HANDLERS: Final = {
    f"{method} {route.path_format}": handler
    for route in _APP.routes
    if isinstance(route, HTTPRoute)
    for method, (handler, _) in sorted(route.route_handler_map.items())
    if method != "OPTIONS"
}
_EVERY: Final = sorted(_HANDLERS)
_OF_THE_API: Final = [name for name in _EVERY if OPERATION_KEY in _HANDLERS[name].opt]
_GUARDED: Final = [name for name in _EVERY if _HANDLERS[name].opt.get(SCOPE_KEY) != PUBLIC]
_GUARDED_API: Final = [name for name in _OF_THE_API if name in _GUARDED]
_WITH_A_CHOICE: Final = [
    name for name in _OF_THE_API if 406 in _HANDLERS[name].opt[OPERATION_KEY].problems
]
_METHODS: Final = {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"}
_SOME_ID: Final = "01956366-8510-7000-8b24-ea88ced69780"
_HOSTILE_IDS: Final = (
    "x",
    "%00",
    "..%2F..%2Fetc",
    "%F0%9F%98%80",
    "a" * 5_000,
    "%ff",
    "' OR 1=1 --",
)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The application over a SQLite log, shared by these tests: none minds what others record."""
    async with running(f"sqlite:///{tmp_path_factory.mktemp('routes') / 'audit.db'}") as found:
        yield found


def _at(name: str, id: str = _SOME_ID) -> tuple[str, str]:
    """The method, and a path with that id in it."""
    method, _, path = name.partition(" ")
    parts = [id if part.startswith("{") else part for part in path.split("/")]
    return method, "/".join(parts)


def _methods_of(path: str) -> set[str]:
    """The methods that a path has: with GET comes HEAD."""
    there = {name.partition(" ")[0] for name in _EVERY if name.endswith(f" {path}")}
    return there | {"OPTIONS"} | ({"HEAD"} if "GET" in there else set())


def _assert_problem(found: httpx.Response, *statuses: int) -> None:
    """It is a problem (RFC 9457, section 3.1) with one of those statuses, and tells no secrets."""
    assert found.status_code in statuses, (found.status_code, found.text[:300])
    assert found.headers["Content-Type"] == MEDIA_TYPE
    problem = found.json()
    assert problem["type"].startswith("urn:muniment:problem:")
    assert problem["status"] == found.status_code
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in found.text
    assert "site-packages" not in found.text


@pytest.mark.parametrize("name", _EVERY)
async def test_every_route_says_who_may_call_it(name: str) -> None:
    """A route that forgets to is open to nobody; none should forget."""
    said = _HANDLERS[name].opt.get(SCOPE_KEY)
    assert said == PUBLIC or isinstance(said, Scope)


@pytest.mark.parametrize("name", [name for name in _EVERY if " /v1/" in name])
async def test_every_route_of_the_api_is_described(name: str) -> None:
    """The description leaves nothing out."""
    assert name in _OF_THE_API


@pytest.mark.parametrize("name", _GUARDED)
async def test_without_a_credential_it_is_a_401(api: Api, name: str) -> None:
    """Every guarded route says how to show one, and looks at nothing else first."""
    found = await api.call(*_at(name), headers={"Authorization": ""})
    _assert_problem(found, 401)
    assert found.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", _GUARDED_API)
async def test_a_credential_without_the_scope_is_a_403(api: Api, name: str) -> None:
    """No scope includes another one."""
    wanted = _HANDLERS[name].opt[SCOPE_KEY]
    others = await api.token(*(scope for scope in Scope if scope != wanted))
    _assert_problem(await api.call(*_at(name), headers=others), 403)


@pytest.mark.parametrize("name", _OF_THE_API)
async def test_an_unknown_parameter_is_refused_by_name(api: Api, name: str) -> None:
    """Ignored, a misspelt parameter would change what is asked for."""
    method, path = _at(name)
    found = await api.call(method, f"{path}?no_such_parameter=1", json={"tenant_id": "acme"})
    _assert_problem(found, 400)
    assert found.json()["field"] == "no_such_parameter"


@pytest.mark.parametrize("id", _HOSTILE_IDS)
@pytest.mark.parametrize("name", [name for name in _OF_THE_API if "{" in name])
async def test_an_id_that_is_none_is_not_found(api: Api, name: str, id: str) -> None:
    """Whatever stands in the path, there is no such thing."""
    _assert_problem(await api.call(*_at(name, id)), 400, 404)


@pytest.mark.parametrize("path", sorted({name.partition(" ")[2] for name in _EVERY}))
async def test_a_method_that_is_not_there_is_a_405(api: Api, path: str) -> None:
    """It says which ones there are."""
    there = _methods_of(path)
    for method in _METHODS - there:
        found = await api.call(*_at(f"{method} {path}"))
        _assert_problem(found, 405)
        assert set(found.headers["Allow"].split(", ")) == there


@pytest.mark.parametrize("path", sorted({name.partition(" ")[2] for name in _OF_THE_API}))
async def test_options_tells_the_methods(api: Api, path: str) -> None:
    """OPTIONS says the same as a 405 does (RFC 9110, section 9.3.7)."""
    found = await api.call(*_at(f"OPTIONS {path}"))
    assert set(found.headers["Allow"].split(", ")) == _methods_of(path)


@pytest.mark.parametrize("name", _WITH_A_CHOICE)
async def test_a_media_type_that_is_not_there_is_a_406(api: Api, name: str) -> None:
    """Where there is a choice, what is not accepted is not sent."""
    receipt = await api.log.record("login", tenant_id="acme")
    method, path = _at(name, receipt.event_id)
    found = await api.call(method, path, headers={"Accept": "image/png"})
    _assert_problem(found, 404, 406)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"null", b'{"x":' * 5_000, b"[" * 200_000]
)
@pytest.mark.parametrize("name", [name for name in _OF_THE_API if name.startswith("POST ")])
async def test_a_body_that_is_none_is_refused(api: Api, name: str, body: bytes) -> None:
    """Garbage of any shape is the caller's mistake, never ours."""
    headers = {"Content-Type": "application/json"}
    found = await api.call(*_at(name), content=body, headers=headers)
    _assert_problem(found, 400, 413, 422)


@pytest.mark.parametrize("name", [name for name in _OF_THE_API if name.startswith("POST ")])
async def test_a_body_of_another_media_type_is_refused(api: Api, name: str) -> None:
    """What a form on any page could send is not taken."""
    _assert_problem(await api.call(*_at(name), data={"action": "login"}), 400, 415)


async def test_a_path_that_is_not_there_is_a_404(api: Api) -> None:
    """A machine gets a problem, wherever it asks."""
    for path in ("/v1", "/v1/event", "/v2/events", "/nothing", "/static/../app.py"):
        _assert_problem(await api.get(path, headers={"Accept": "application/json"}), 404)


async def test_a_person_gets_a_page_for_an_error(api: Api) -> None:
    """Outside the API a browser is shown the same problem as a page; within it, never."""
    page = await api.get("/nothing", headers={"Accept": "text/html"})
    machine = await api.get("/v1/nothing", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Content-Type"][:9]) == (404, "text/html")
    _assert_problem(machine, 404)


async def test_what_fails_here_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours is a 500 without a word of its cause."""

    async def fail(**_: object) -> None:
        raise RuntimeError("postgresql://keeper:secret@db/audit")

    monkeypatch.setattr(api.log, "search", fail)
    found = await api.get("/v1/events")
    _assert_problem(found, 500)
    assert "secret" not in found.text


_PARAMETERS: Final = (*Find.__struct_fields__, "after", "bars", "receipts", "x")
_values = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "*", "24h", "9999w", "-1", "1e9", "true", "null", "\x00", "user:u1"]),
    st.integers().map(str),
    st.dates().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
)
_queries = st.one_of(
    st.lists(st.tuples(st.sampled_from(_PARAMETERS), _values), max_size=4).map(
        lambda pairs: "&".join(
            f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in pairs
        )
    ),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60
    ),
)


@pytest.mark.parametrize(
    "path", ["/v1/events", "/v1/stats", "/v1/tail?after=none", "/v1/actions", "/v1/checkpoint"]
)
async def test_no_query_makes_it_fail(api: Api, path: str) -> None:
    """Whatever stands behind the question mark, the answer is an answer or a refusal."""
    asked: list[str] = []

    @settings(max_examples=60, derandomize=True, database=None)
    @given(_queries)
    def collect(query: str) -> None:
        asked.append(query)

    collect()
    separator = "&" if "?" in path else "?"
    found = [await api.get(f"{path}{separator}{query}") for query in asked]
    assert [f"{each.url} {each.text}" for each in found if each.status_code >= 500] == []


async def test_problems_are_json_of_one_shape(api: Api) -> None:
    """No member that a client may rely on changes its type from one problem to another."""
    kinds: dict[str, set[str]] = {}
    for path in ("/v1/events?limit=x", "/v1/nothing", f"/v1/events/{_SOME_ID}", "/v1/checkpoint"):
        for name, value in json.loads((await api.get(path)).content).items():
            kinds.setdefault(name, set()).add(type(value).__name__)
    assert {name for name, types in kinds.items() if len(types) > 1} == set()
