"""An HTTP endpoint as an anchor."""

from __future__ import annotations

import pytest
from aiohttp import web

from muniment.anchors import anchors_from
from muniment.anchors.base import Unreachable
from muniment.anchors.endpoint import HttpAnchor
from muniment.errors import AnchorError
from tests.proofs.listening import no_proof, serving
from tests.proofs.trails import Trail
from tests.servers.ports import HeldPort


class _Endpoint:
    """Keeps what is PUT, and never overwrites; `fails` requests are answered 503 before."""

    def __init__(self, fails: int = 0) -> None:
        self.kept: dict[str, str] = {}
        self.fails = fails
        self.seen: list[web.BaseRequest] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        if self.fails:
            self.fails -= 1
            return web.Response(status=503)
        path = request.raw_path
        if request.method == "GET":
            return web.Response(text=self.kept[path])
        if path in self.kept and request.headers.get("If-None-Match") == "*":
            return web.Response(status=412)
        self.kept[path] = await request.text()
        return web.Response(status=201)


async def test_an_endpoint_gets_each_checkpoint_under_a_url_of_its_own() -> None:
    """The origin is one segment of the path; the same checkpoint again is fine."""
    endpoint, trail = _Endpoint(), Trail("a/b")
    async with serving(endpoint) as url:
        (anchor,) = anchors_from([f"{url}/audit"])
        for size in (5, 9, 5):
            assert await anchor.anchor(trail.checkpoint(size), no_proof) is None
        await anchor.close()
    origin = "audit.example%2Flog%2Fa%252Fb"
    assert list(endpoint.kept) == [f"/audit/{origin}/5", f"/audit/{origin}/9"]
    assert endpoint.kept[f"/audit/{origin}/9"] == trail.checkpoint(9).note


async def test_a_url_says_where_origin_and_size_belong() -> None:
    """Before a query that it needs, for instance."""
    endpoint, trail = _Endpoint(), Trail()
    async with serving(endpoint) as url:
        (anchor,) = anchors_from([url + "/{size}/of/{origin}?token=secret"])
        await anchor.anchor(trail.checkpoint(5), no_proof)
        assert "secret" not in anchor.name
        await anchor.close()
    assert list(endpoint.kept) == ["/5/of/audit.example%2Flog%2Facme?token=secret"]


async def test_an_endpoint_that_has_another_checkpoint_says_fork() -> None:
    """What is there is read back and compared."""
    async with serving(_Endpoint()) as url:
        (anchor,) = anchors_from([url])
        await anchor.anchor(Trail().checkpoint(5), no_proof)
        with pytest.raises(AnchorError, match="fork"):
            await anchor.anchor(Trail(story="another").checkpoint(5), no_proof)
        await anchor.close()


async def test_an_endpoint_is_tried_three_times() -> None:
    """Two failures are made good; after three it is left alone."""
    endpoint = _Endpoint(fails=2)
    async with serving(endpoint) as url:
        anchor = HttpAnchor("endpoint", url + "/{origin}/{size}")
        await anchor.anchor(Trail().checkpoint(5), no_proof)
        endpoint.fails = 9
        with pytest.raises(Unreachable, match="503"):
            await anchor.anchor(Trail().checkpoint(6), no_proof)
        await anchor.close()
    assert len(endpoint.seen) == 6


async def test_a_redirect_is_not_followed() -> None:
    """Who was given the URL is whom the checkpoint is given to."""

    async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"http://{request.host}/there"})

    async with serving(elsewhere) as url:
        (anchor,) = anchors_from([url])
        with pytest.raises(AnchorError, match="refuses with 307"):
            await anchor.anchor(Trail().checkpoint(5), no_proof)
        await anchor.close()


async def test_an_account_in_the_url_is_used_and_never_shown() -> None:
    """As basic authentication; neither the name nor an error has it."""
    endpoint = _Endpoint()
    async with serving(endpoint) as url:
        (anchor,) = anchors_from([url.replace("//", "//user:s3cret@")])
        await anchor.anchor(Trail().checkpoint(5), no_proof)
    assert endpoint.seen[0].headers["Authorization"] == "Basic dXNlcjpzM2NyZXQ="
    with pytest.raises(AnchorError) as raised:
        await anchor.anchor(Trail().checkpoint(6), no_proof)
    assert "s3cret" not in f"{raised.value} {anchor.name}"
    await anchor.close()


async def test_a_place_that_is_not_there_can_not_be_reached() -> None:
    """Nobody listens: an `AnchorError` with the reason."""
    with HeldPort() as port:
        (anchor,) = anchors_from([f"http://127.0.0.1:{port.number}"])
        with pytest.raises(Unreachable, match="can't be reached"):
            await anchor.anchor(Trail().checkpoint(5), no_proof)
        await anchor.close()
