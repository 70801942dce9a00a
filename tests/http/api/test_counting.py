from __future__ import annotations

from muniment import Actor, Event
from muniment.http.access import Scope
from tests.http.api.calling import Api


async def test_counts_are_those_of_the_log(api: Api) -> None:
    """`/v1/stats` answers what `log.count` does for the same filter."""
    await api.log.record_many(
        [
            Event(action="login", tenant_id="acme", actor=Actor.user("u1"), outcome="denied"),  # type: ignore[arg-type]
            Event(action="logout", tenant_id="acme", actor=Actor.user("u1")),
        ]
    )
    found = (await api.get("/v1/stats?tenant_id=acme&action=login&bars=10")).json()
    assert found["events"] == 1
    assert sum(sum(bar["outcomes"].values()) for bar in found["bars"]) == 1
    assert [value["value"] for value in found["facets"]["outcome"]["values"]] == ["denied"]


async def test_counts_are_of_the_callers_tenant(api: Api) -> None:
    """A token of one tenant counts its own events only."""
    await api.log.record_many(
        [Event(action="login", tenant_id=name) for name in ("acme", "acme", "globex")]
    )
    bound = await api.token(Scope.READ, tenant_id="globex")
    found = await api.get("/v1/stats?action=login", headers=bound)
    other = await api.get("/v1/stats?tenant_id=acme", headers=bound)
    assert (found.json()["events"], other.status_code) == (1, 403)


async def test_actions_are_the_catalogue_and_what_was_seen(api: Api) -> None:
    """Each action has its category and title, and says whether events have it."""
    await api.log.record("invoice.delete", tenant_id="acme")
    found = (await api.get("/v1/actions?tenant_id=acme")).json()["actions"]
    seen = {each["action"]: each["seen"] for each in found}
    assert (seen["invoice.delete"], seen["role_assign"]) == (True, False)


async def test_actions_seen_are_of_the_callers_tenant(api: Api) -> None:
    """What another tenant's events are called is nobody else's business."""
    await api.log.record("secret.plan", tenant_id="acme")
    bound = await api.token(Scope.READ, tenant_id="globex")
    found = await api.get("/v1/actions", headers=bound)
    assert "secret.plan" not in found.text
