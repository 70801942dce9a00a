"""Every error has one shape (RFC 9457), and none tells what is inside."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Response
from litestar.exceptions import InternalServerException, ValidationException

from muniment.errors import (
    Conflict,
    EventRefused,
    InvalidEvent,
    LogClosed,
    MunimentError,
    NotDurable,
    StoreError,
    StoreUnavailable,
    WrongProcess,
)
from muniment.http.problems import MEDIA_TYPE, refusal_of
from tests.http.api.calling import Api


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nowhere", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/events", 405),
        ("PUT", "/v1/events/batch", 405),
        ("POST", "/v1/events?colour=1", 400),
        ("POST", "/v1/events", 415),
    ],
)
async def test_the_shape_is_one(api: Api, method: str, path: str, status: int) -> None:
    """Type, title, status and detail, as application/problem+json, whoever found the fault."""
    answer = await api.call(method, path)
    told = answer.json()
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert (answer.status_code, told["status"]) == (status, status)
    assert told["type"].startswith("urn:muniment:problem:")
    assert told["title"]
    assert told["detail"]


async def test_a_405_says_what_is_allowed(api: Api) -> None:
    """By `Allow`, as RFC 9110 has it (section 15.5.6)."""
    answer = await api.call("DELETE", "/v1/events")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidEvent("action", "is empty"), 422),
        (Conflict("0", ("action",)), 409),
        (EventRefused("/var/secret"), 422),
        (NotDurable("/var/secret"), 503),
        (StoreUnavailable("postgresql://secret@host"), 503),
        (LogClosed("secret"), 503),
        (WrongProcess("secret"), 503),
        (StoreError("secret"), 500),
        (MunimentError("secret"), 500),
        (KeyError("secret"), 500),
        (InternalServerException("secret"), 500),
        (ValidationException("no", extra=[{"key": "limit", "message": "too many"}]), 400),
    ],
)
def test_an_error_has_its_status_and_keeps_secrets(error: Exception, status: int) -> None:
    """What is the client's to mend is told; paths, hosts and the unforeseen are not."""
    problem = refusal_of(error).problem
    assert problem.status == status
    assert "secret" not in problem.detail


def test_what_may_be_tried_again_says_when() -> None:
    """A 503 has Retry-After; nothing else has."""
    assert refusal_of(NotDurable("x")).headers == {"Retry-After": "1"}
    assert refusal_of(InvalidEvent("x", "y")).headers == {}


async def test_what_is_unforeseen_is_logged_and_not_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500, with the traceback in the service's log alone."""

    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(api.log, "count", broken)
    answer = await api.get("/v1/stats")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:muniment:problem:internal")
    assert "secret" not in answer.text
    assert "the secret" in caplog.text


async def test_an_outage_does_not_fill_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often somebody asks meanwhile, it has one line of it a minute, and no traceback."""

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("postgresql://secret@host")

    monkeypatch.setattr(api.log, "count", away)
    for _ in range(5):
        assert (await api.get("/v1/stats")).status_code == 503
    told = [record for record in caplog.records if record.name == "muniment.http"]
    assert [(len(told), record.exc_info) for record in told] == [(1, None)]


async def test_people_see_a_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a browser asks for a page the viewer shows the problem; the API stays as it is."""

    def render(_: Any, problem: Any) -> Response[bytes]:
        return Response(b"page", status_code=problem.status, media_type="text/html")

    monkeypatch.setattr(api.service, "render_problem", render, raising=False)
    browser = {"Accept": "text/html"}
    page = await api.get("/nowhere", headers=browser)
    machine = await api.get("/v1/nowhere", headers=browser)
    assert (page.status_code, page.text) == (404, "page")
    assert machine.headers["content-type"] == MEDIA_TYPE
