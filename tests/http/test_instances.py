"""Several services over one log, behind a balancer that knows nothing of sessions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.scripted import LONG
from tests.servers.balancer import Balancer
from tests.servers.muniment import PatientlyServed, Served
from tests.servers.postgres import Postgres

Serve = Callable[..., Served]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def instances(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Served]]:
    """Two services over one log, each with a spool of its own; a test keeps to its own tenant."""
    directory = tmp_path_factory.mktemp("instances")
    url = f"sqlite:///{directory}/audit.db"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.url(server.create_database(request.getfixturevalue("postgres_template")))
    with (
        PatientlyServed(url, MUNIMENT_SPOOL_DIR=f"{directory}/one") as one,
        PatientlyServed(url, MUNIMENT_SPOOL_DIR=f"{directory}/other") as other,
    ):
        yield [one, other]


@contextmanager
def _asking(instances: list[Served]) -> Iterator[Callable[..., Any]]:
    """Asks the services by turns: each request is a connection of its own."""
    token = next(served.token for served in instances if served.token)
    with Balancer([served.port for served in instances]) as balancer:

        def ask(method: str, path: str, **more: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.request(method, balancer.url + path, headers=headers, timeout=LONG, **more)

        yield ask


def _login(number: int, tenant_id: str = "acme") -> dict[str, Any]:
    actor = {"type": "user", "id": f"u{number}"}
    return {"action": "login", "tenant_id": tenant_id, "actor": actor}


def test_one_token_opens_all_and_each_reads_what_any_recorded(instances: list[Served]) -> None:
    """The first one's token is good at the other, and events posted by turns are one log."""
    with _asking(instances) as ask:
        posted = [ask("POST", "/v1/events", json=_login(n, "read")) for n in range(10)]
        assert {answer.status_code for answer in posted} == {201}
        for _ in instances:
            events = ask("GET", "/v1/events?action=login&tenant_id=read").json()["events"]
            assert {event["actor"]["id"] for event in events} == {f"u{n}" for n in range(10)}


def test_an_event_sent_again_elsewhere_is_stored_once(instances: list[Served]) -> None:
    """What a client repeats, because it got no answer, the other one knows already."""
    event = _login(1, "again") | {"event_id": "01a21598-9906-7706-b492-54ce22a45d0a"}
    with _asking(instances) as ask:
        again = [ask("POST", "/v1/events", json=event).status_code for _ in range(2)]
    assert again == [201, 200]


def test_a_tail_sees_what_both_record(instances: list[Served]) -> None:
    """A tail is open at one of them, and gets the events of each, once."""
    token = next(served.token for served in instances if served.token)
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{instances[0].url}/v1/tail?action=login&tenant_id=tail"
    with (
        _asking(instances) as ask,
        httpx.stream("GET", url, headers=headers, timeout=LONG) as tail,
    ):
        lines = tail.iter_lines()
        assert next(lines).startswith("retry:")
        for number in range(4):
            assert ask("POST", "/v1/events", json=_login(number, "tail")).status_code == 201
        found = (json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert sorted(next(found)["actor"]["id"] for _ in range(4)) == ["u0", "u1", "u2", "u3"]


def test_workers_of_one_service_share_a_sqlite_log(serve: Serve, sqlite_url: str) -> None:
    """Several processes record in one file; each reads it all."""
    served = serve(sqlite_url, "--workers", 3)
    given: dict[str, Any] = {"headers": served.headers, "timeout": LONG}
    url = f"{served.url}/v1/events"
    statuses = {httpx.post(url, json=_login(n), **given).status_code for n in range(30)}
    assert statuses == {201}
    for _ in range(6):  # each is a connection, which any worker may get
        answer = httpx.get(f"{url}?action=login", **given)
        assert len(answer.json()["events"]) == 30
