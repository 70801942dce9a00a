"""Who may see and change credentials in PostgreSQL, asked by hand through psql."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from muniment.errors import StoreError
from muniment.stores import open_store
from tests.servers.postgres import Postgres
from tests.stores.secured import Secured, secured
from tests.stores.test_credentials import credential

_ADD = """
    INSERT INTO muniment.credentials (id, kind, secret_hash, name, scopes, created_at, expires_at)
    VALUES ('{id}', '{kind}', sha256('{id}'), 'n', '{{read}}', now(), now() + '{ends}')
"""
_ALLOWED = {
    "see": "SELECT secret_hash FROM muniment.credentials",
    "add": _ADD.format(id="c9", kind="token", ends="1 day"),
    "revoke": "UPDATE muniment.credentials SET revoked_at = now()",
    "use": "UPDATE muniment.credentials SET used_at = now() WHERE kind = 'link'",
    "prune": "DELETE FROM muniment.credentials WHERE kind <> 'token'",
}
_FIXED = {
    "its tenant": "tenant_id = 'globex'",
    "its scopes": "scopes = '{admin}'",
    "its end": "expires_at = now() + '1 year'",
    "its secret": "secret_hash = sha256('mine')",
    "its person": "person_id = 'u1'",
    "its token": "parent_id = 'c0'",
}


@pytest.fixture(scope="module")
def shared_place(postgres_server: Postgres) -> Iterator[tuple[Secured, str]]:
    """A secured database, and a role that serves in it."""
    with secured(postgres_server) as place:
        service = postgres_server.create_role()
        place.answer(f"GRANT muniment_service TO {service}")
        yield place, service
        place.answer(f"REVOKE muniment_service FROM {service}")
        postgres_server.drop_role(service)


@pytest.fixture
def place(shared_place: tuple[Secured, str]) -> Iterator[Secured]:
    """The database, with a token, a link, and one session that has expired."""
    place, _ = shared_place
    for name, kind, ends in (
        ("c0", "token", "1 day"),
        ("c1", "link", "1 day"),
        ("c2", "session", "-1 day"),
        ("c3", "token", "-1 day"),
    ):
        place.answer(_ADD.format(id=name, kind=kind, ends=ends), place.installer)
    yield place
    place.answer("DELETE FROM muniment.credentials", place.installer)


@pytest.fixture
def service(shared_place: tuple[Secured, str]) -> str:
    """A role that serves."""
    return shared_place[1]


@pytest.mark.parametrize("what", _ALLOWED)
def test_who_serves_may(place: Secured, service: str, what: str) -> None:
    """See, add, revoke, use and prune: what the service does."""
    place.answer(_ALLOWED[what], service)


@pytest.mark.parametrize("what", _ALLOWED)
def test_nobody_else_may(place: Secured, what: str) -> None:
    """No writer, reader, keeper or sequencer, and no stranger, sees or touches a credential."""
    stranger = place.server.create_role()
    others = (place.acme_writer, place.all_reader, place.keeper, place.sequencer, stranger)
    refused = [place.run(_ALLOWED[what], role).stderr for role in others]
    place.server.drop_role(stranger)
    assert ["permission denied" in each for each in refused] == [True] * len(others)


@pytest.mark.parametrize("what", _FIXED)
def test_what_a_credential_is_stays(place: Secured, service: str, what: str) -> None:
    """The service has no right to change it, and its owner and a superuser are stopped too."""
    change = f"UPDATE muniment.credentials SET {_FIXED[what]}"
    assert "permission denied" in place.run(change, service).stderr
    for role in (place.installer, None):
        assert "stays so" in place.run(change, role).stderr


@pytest.mark.parametrize(
    "revival", ["revoked_at = NULL", "revoked_at = revoked_at + '1 s'", "used_at = NULL"]
)
def test_nothing_comes_back_to_life(place: Secured, service: str, revival: str) -> None:
    """Not for the service, nor under `session_replication_role`."""
    place.answer(_ALLOWED["revoke"], service)
    place.answer(_ALLOWED["use"], service)
    change = f"UPDATE muniment.credentials SET {revival} WHERE kind = 'link'"
    assert "stays so" in place.run(change, service).stderr
    assert "stays so" in place.run(f"SET session_replication_role = replica; {change}").stderr


def test_who_serves_removes_only_what_has_expired(place: Secured, service: str) -> None:
    """Neither a token, nor what somebody could still come in with."""
    place.answer("DELETE FROM muniment.credentials", service)
    left = place.answer("SELECT id FROM muniment.credentials ORDER BY id", service)
    assert left == ["c0", "c1", "c3"]


def test_who_serves_sees_no_event(place: Secured, service: str) -> None:
    """The role is for credentials alone; reading and writing are rights of their own."""
    for table in ("events", "postings", "actions", "cells"):
        assert "permission denied" in place.run(f"SELECT FROM muniment.{table}", service).stderr


async def test_pruning_through_the_store_goes_by_the_servers_clock(
    place: Secured, service: str
) -> None:
    """A service whose clock is ahead removes nothing that is good for something."""
    store = open_store(place.url(service))
    await store.open()
    removed = await store.credentials.prune(datetime.now(UTC) + timedelta(days=30))
    await store.close()
    assert removed == 1


async def test_who_lacks_the_right_is_told_which(place: Secured) -> None:
    """The role to grant, and to whom."""
    store = open_store(place.url(place.acme_writer))
    await store.open()
    with pytest.raises(StoreError) as raised:
        await store.credentials.add(credential("t1"))
    await store.close()
    assert f"GRANT muniment_service TO {place.acme_writer}" in str(raised.value)
