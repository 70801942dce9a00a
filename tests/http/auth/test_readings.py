"""Reading the trail is recorded in it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muniment.errors import NotDurable
from muniment.event import Actor, Context, Outcome
from muniment.http.access import Caller, Scope
from muniment.http.readings import SAME_VIEW_SECONDS, Readings
from tests.http.auth.calling import Clock, Site

_WHAT = {"filters": {"action": "login"}, "events": 3}


def _caller(id: str = "c1", tenant_id: str | None = "acme") -> Caller:
    return Caller(
        kind="token",
        id=id,
        scopes=frozenset(Scope),
        tenant_id=tenant_id,
        actor=Actor.user("u1", name="Ann"),
        context=Context(ip="192.0.2.7", request_id="r1"),
    )


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
def readings(site: Site, clock: Clock) -> Readings:
    """Readings of the site's log."""
    return Readings(site.log, is_on=True, monotonic=clock.monotonic)


@pytest.mark.parametrize("kind", ["view", "export"])
async def test_it_says_who_read_what_and_from_where(
    site: Site, readings: Readings, kind: str
) -> None:
    """In the tenant that was read, with the credential by its id."""
    await getattr(readings, kind)(_caller(), "acme", _WHAT)
    (event,) = await site.events(f"audit.{kind}")
    assert (event.tenant_id, event.outcome) == ("acme", Outcome.SUCCESS)
    assert event.actor == Actor.user("u1", name="Ann")
    assert event.context == Context(ip="192.0.2.7", request_id="r1")
    assert event.details == {**_WHAT, "credential": {"kind": "token", "id": "c1"}}


async def test_reading_all_tenants_is_the_systems(site: Site, readings: Readings) -> None:
    """No single tenant's trail tells of it."""
    await readings.view(_caller(tenant_id=None), None, _WHAT)
    (event,) = await site.events("audit.view")
    assert event.tenant_id == "system"


async def test_the_same_view_is_recorded_once_a_minute(
    site: Site, readings: Readings, clock: Clock
) -> None:
    """The order of what was asked for does not matter; who looks on is recorded again."""
    for passed in (0.0, 1.0, SAME_VIEW_SECONDS - 0.01):
        clock.passed = passed
        await readings.view(_caller(), "acme", dict(reversed(_WHAT.items())))
        await readings.view(_caller(), "acme", _WHAT)
    assert len(await site.events("audit.view")) == 1
    clock.passed = SAME_VIEW_SECONDS
    await readings.view(_caller(), "acme", _WHAT)
    assert len(await site.events("audit.view")) == 2


async def test_another_view_is_another_one(site: Site, readings: Readings) -> None:
    """By another credential, of another tenant, of something else."""
    await readings.view(_caller(), "acme", _WHAT)
    await readings.view(_caller("c2"), "acme", _WHAT)
    await readings.view(_caller(), "globex", _WHAT)
    await readings.view(_caller(), None, _WHAT)
    await readings.view(_caller(), "acme", {**_WHAT, "events": 4})
    assert len(await site.events("audit.view")) == 5


async def test_every_export_is_recorded(site: Site, readings: Readings) -> None:
    """Taking the same away twice is two exports."""
    for _ in range(2):
        await readings.export(_caller(), "acme", _WHAT)
    assert len(await site.events("audit.export")) == 2


async def test_the_same_view_at_the_same_time_waits_for_its_record(
    site: Site, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is shown anything before it is recorded; and if it can't be, neither is."""
    go_on = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> None:
        await go_on.wait()
        raise NotDurable

    monkeypatch.setattr(site.log, "record", slow)
    both = [asyncio.create_task(readings.view(_caller(), "acme", _WHAT)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in both)
    go_on.set()
    done = await asyncio.gather(*both, return_exceptions=True)
    assert [type(each) for each in done] == [NotDurable, NotDurable]


async def test_a_view_that_was_not_recorded_is_tried_again(
    site: Site, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one counts."""

    async def lost(*_: Any, **__: Any) -> None:
        raise NotDurable

    with monkeypatch.context() as patch:
        patch.setattr(site.log, "record", lost)
        with pytest.raises(NotDurable):
            await readings.view(_caller(), "acme", _WHAT)
    await readings.view(_caller(), "acme", _WHAT)
    assert len(await site.events("audit.view")) == 1


async def test_what_is_remembered_of_views_is_bounded(
    readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many different ones there are."""
    monkeypatch.setattr("muniment.http.readings._REMEMBERED", 3)
    for n in range(10):
        await readings.view(_caller(), "acme", {"n": n})
    assert len(readings._views) == 3


async def test_it_can_be_switched_off(site: Site) -> None:
    """Then nothing is recorded of reading."""
    readings = Readings(site.log, is_on=False)
    await readings.view(_caller(), "acme", _WHAT)
    await readings.export(_caller(), "acme", _WHAT)
    assert await site.events("audit.*") == []
