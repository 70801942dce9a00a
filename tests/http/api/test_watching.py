from __future__ import annotations

import msgspec
import pytest

from muniment.http.access import Scope
from muniment.http.api import watching
from muniment.watching import Health
from tests.http.api.calling import Api, running


async def test_it_is_alive_whatever_the_log_does(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness asks nothing of the store: a restart would not mend it."""
    monkeypatch.setattr(api.log, "health", lambda: Health("failing", ("x",)))
    assert (await api.get("/healthz", headers={"Authorization": ""})).status_code == 200


@pytest.mark.parametrize("state", ["ok", "degraded", "failing"])
async def test_it_is_ready_while_the_spool_takes_events(
    api: Api, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """However long an outage lasts. What fails is not told to everybody."""
    monkeypatch.setattr(api.log, "health", lambda: Health(state, ("/var/lib/x",)))  # type: ignore[arg-type]
    found = await api.get("/readyz", headers={"Authorization": ""})
    assert (found.status_code, found.json()) == (200, {"state": state})


@pytest.mark.parametrize(("seconds", "status"), [(3.0, 503), (11.0, 200)])
async def test_it_is_not_ready_just_after_a_loss(
    api: Api, monkeypatch: pytest.MonkeyPatch, seconds: float, status: int
) -> None:
    """Others may be able to take what comes; after a while it is tried again."""
    now = api.log.snapshot()
    assert now is not None
    lost = msgspec.structs.replace(now, drop_seconds=seconds)
    monkeypatch.setattr(api.log, "snapshot", lambda: lost)
    assert (await api.get("/readyz")).status_code == status


async def test_it_is_not_ready_while_it_shuts_down(api: Api) -> None:
    """A balancer sends nothing more to a service that ends."""
    api.service.closing.set()
    found = await api.get("/readyz")
    assert (found.status_code, found.json()["state"]) == (503, "closing")


async def test_metrics_count_requests_by_route(api: Api) -> None:
    """The label is the route's template: ids of events would make no end of labels."""
    await api.get("/v1/events/01956366-8510-7000-8b24-ea88ced69780")
    found = (await api.get("/metrics")).text
    assert (
        'muniment_http_request_seconds_count{method="GET",route="/v1/events/{event_id}",'
        'status="4xx"} 1.0' in found
    )
    assert "muniment_healthy 1.0" in found


async def test_metrics_count_what_is_refused_before_its_route(api: Api) -> None:
    """An operator sees that callers are over a limit; there is no label for each path they try."""
    await api.get(f"/nowhere?{'x' * 8}", headers={"X-Long": "x" * 40_000})
    found = (await api.get("/metrics")).text
    assert (
        'muniment_http_request_seconds_count{method="GET",route="(refused)",status="4xx"} 1.0'
        in found
    )


async def test_metrics_need_the_scope_admin(api: Api) -> None:
    """Figures of all tenants are for the operator, unless a setting opens them."""
    reader = await api.token(Scope.READ)
    assert (await api.get("/metrics", headers=reader)).status_code == 403


async def test_metrics_can_be_open(sqlite_url: str) -> None:
    """With `public_metrics` a scraper needs no token."""
    async with running(sqlite_url, public_metrics=True) as api:
        found = await api.get("/metrics", headers={"Authorization": ""})
        assert found.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/v1/events", "/v1/nothing", "/v1/events?x=1"])
async def test_no_answer_is_cached_or_sniffed(api: Api, path: str) -> None:
    """What is said of a trail stays out of caches, and is taken for what it says it is."""
    found = await api.get(path)
    assert found.headers["Cache-Control"] == "no-store"
    assert found.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_description_is_made_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long to make, and whoever has no token may ask for it, too."""
    first = await api.get("/schema")
    monkeypatch.setattr(watching, "described", None)
    assert (await api.get("/schema")).content == first.content
