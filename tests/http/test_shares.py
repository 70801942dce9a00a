"""One tenant can't use up the service: it has its share, and the others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
import pytest

from muniment import Event
from muniment.http.access import Scope
from muniment.http.limits import Room
from muniment.http.problems import MEDIA_TYPE, Refusal
from tests.http.api.calling import Api, Stream, running
from tests.http.api.posting import NDJSON, over_faulty_store
from tests.scripted import until

_ACME: Final = ("tenant", "acme")
_EVENT: Final = b'{"action":"login"}'


class _Sending:
    """A post whose body goes on until it is told to end."""

    def __init__(self, api: Api, path: str, headers: dict[str, str]) -> None:
        self._ends = asyncio.Event()
        self.task = asyncio.create_task(
            api.call("POST", path, content=self._body(), headers=headers)
        )

    async def _body(self) -> AsyncIterator[bytes]:
        yield _EVENT
        await self._ends.wait()

    async def end(self) -> httpx.Response:
        """The answer to the whole of it."""
        self._ends.set()
        return await self.task


def _assert_over_the_share(answer: httpx.Response, again: str = "1") -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (429, MEDIA_TYPE)
    assert answer.headers["Retry-After"] == again
    problem = answer.json()
    assert problem["type"] == "urn:muniment:problem:too-many-requests"
    assert problem["status"] == 429


@pytest.mark.parametrize(
    ("path", "media_type", "room"),
    [("/v1/events", "application/json", "requests"), ("/v1/events/batch", NDJSON, "batches")],
)
async def test_slow_bodies_of_one_tenant_leave_room_for_another(
    sqlite_url: str, path: str, media_type: str, room: str
) -> None:
    """With its share at work a tenant gets 429, whichever its token; another one is served."""
    kind = {"Content-Type": media_type}
    async with running(sqlite_url, max_requests=4, max_batches=4) as api:
        one, other, globex = [
            await api.token(Scope.WRITE, tenant_id=tenant_id)
            for tenant_id in ("acme", "acme", "globex")
        ]
        slow = [_Sending(api, path, headers | kind) for headers in (one, other)]
        await until(lambda: getattr(api.service.rooms, room)._held == {_ACME: 2})
        refused = await api.call("POST", path, content=_EVENT, headers=one | kind)
        served = await api.call("POST", path, content=_EVENT, headers=globex | kind)
        answers = [await each.end() for each in slow]
        after = await api.call("POST", path, content=_EVENT, headers=one | kind)
    _assert_over_the_share(refused)
    assert served.status_code in {200, 201}
    assert {answer.status_code for answer in (*answers, after)} <= {200, 201}


async def test_open_tails_of_one_tenant_leave_room_for_another(sqlite_url: str) -> None:
    """Those of the viewer are counted with those of the API."""
    async with running(sqlite_url, max_tails=4) as api, AsyncExitStack() as opened:
        acme = await api.token(Scope.READ, tenant_id="acme")
        globex = await api.token(Scope.READ, tenant_id="globex")
        for path in ("/v1/tail", "/live/stream/"):
            await opened.enter_async_context(api.stream(path, **acme))
        _assert_over_the_share(await api.get("/v1/tail", headers=acme), again="5")
        other = await opened.enter_async_context(api.stream("/v1/tail", **globex))
        assert other.status == 200
        assert (await api.get("/v1/events", headers=acme)).status_code == 200


async def test_a_token_for_all_tenants_has_a_share_of_its_own(sqlite_url: str) -> None:
    """One such token is not another one's doing."""
    async with running(sqlite_url, max_tails=4) as api, AsyncExitStack() as opened:
        one, other = [await api.token(Scope.READ) for _ in range(2)]
        for _ in range(2):
            await opened.enter_async_context(api.stream("/v1/tail", **one))
        _assert_over_the_share(await api.get("/v1/tail", headers=one), again="5")
        second = await opened.enter_async_context(api.stream("/v1/tail", **other))
        assert second.status == 200


async def test_the_share_can_be_the_whole(sqlite_url: str) -> None:
    """For a service with one tenant; what is more than there is room for is 503 as ever."""
    async with running(sqlite_url, max_tails=2, tenant_share=1) as api, AsyncExitStack() as opened:
        for _ in range(2):
            stream = await opened.enter_async_context(api.stream("/v1/tail"))
            assert stream.status == 200
        refused = await api.get("/v1/tail")
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:muniment:problem:overloaded")


async def test_those_without_a_credential_leave_room_for_callers(sqlite_url: str) -> None:
    """Slow forms of nobody's get 503, which is nobody's fault in particular; callers are served."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": ""}
    async with running(sqlite_url, max_requests=4) as api:
        slow = [_Sending(api, "/sign-in", form) for _ in range(2)]
        await until(lambda: api.service.rooms.requests._held == {None: 2})
        refused = await api.get("/sign-in", headers={"Authorization": ""})
        served = await api.get("/v1/actions")
        for each in slow:
            await each.end()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert served.status_code == 200


# --- every end gives the place back


async def _left(stream: Stream) -> None:
    await stream.leave()


async def _cancelled(stream: Stream) -> None:
    stream.task.cancel()
    await asyncio.wait([stream.task])


@pytest.mark.parametrize("ended", [_left, _cancelled])
@pytest.mark.parametrize("path", ["/v1/tail", "/v1/events"])
async def test_a_stream_that_ends_gives_its_place_back(
    sqlite_url: str, path: str, ended: Any
) -> None:
    """The client goes away, or the request is cancelled, in the middle of it."""
    async with running(sqlite_url, max_requests=2, max_tails=2) as api:
        await api.log.record_many([Event(action="login") for _ in range(3)])
        accept = {"Accept": "application/x-ndjson" if path == "/v1/events" else "*/*"}
        stream = api.stream(path, **accept)
        await stream.__aenter__()
        held = len(api.service.rooms.of(path))
        await ended(stream)
        assert (held, len(api.service.rooms.of(path))) == (1, 0)
        again = api.stream(path, **accept)
        async with again:
            assert again.status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/events?x=1", {}, 400),
        ("/v1/events", {"Authorization": "Bearer nobody"}, 401),
        ("/nowhere", {}, 404),
        ("/v1/tail?after=019ff000-0000-7000-8000-000000000000", {}, 404),
    ],
)
async def test_a_refused_request_gives_its_place_back(
    sqlite_url: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Before and after it is known who calls."""
    async with running(sqlite_url, max_requests=1, max_tails=1) as api:
        for _ in range(3):
            assert (await api.get(path, headers=headers)).status_code == status
        assert (len(api.service.rooms.requests), len(api.service.rooms.tails)) == (0, 0)


async def test_a_request_that_fails_gives_its_place_back(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours takes no room for good."""

    async def fail(**_: object) -> None:
        raise RuntimeError

    async with over_faulty_store(sqlite_url, max_requests=1) as (api, _):
        monkeypatch.setattr(api.log, "search", fail)
        answers = [await api.get("/v1/events") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500] * 3


# --- a room


@pytest.mark.parametrize(
    ("most", "share", "had"), [(1, 0.5, 1), (3, 0.5, 1), (256, 0.5, 128), (10, 1.0, 10)]
)
def test_a_share_is_rounded_down_but_for_one(most: int, share: float, had: int) -> None:
    """Half of three is one, and so is half of one."""
    room = Room(most, share, what="requests")
    for _ in range(had):
        room.enter().belongs_to(_ACME)
    with pytest.raises(Refusal):
        room.enter().belongs_to(_ACME)


def test_a_room_knows_nobody_who_has_left() -> None:
    """However many tenants there are, what is remembered of them goes with their requests."""
    room = Room(2, 0.5, what="requests")
    for n in range(100):
        place = room.enter()
        place.belongs_to(("tenant", str(n)))
        place.leave()
    assert (len(room), room._held) == (0, {})
