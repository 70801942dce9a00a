"""Both stores keep credentials as the contract says."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from muniment import AuditLog
from muniment.errors import EventRefused, StoreError
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.stores.credentials import Credential, Kind
from muniment.testing import FaultyStore

NOW = datetime(2026, 5, 17, 8, 30, 1, 234_567, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
BEFORE = NOW - timedelta(microseconds=1)


def credential(id: str, **fields: Any) -> Credential:
    """A credential; a token unless `kind` says otherwise."""
    given: dict[str, Any] = {
        "kind": "token",
        "secret_hash": hashlib.sha256(id.encode()).digest(),
        "name": f"name of {id}",
        "scopes": ("read", "export"),
        "tenant_id": "acme",
        "created_at": NOW,
    }
    if fields.get("kind", "token") != "token":
        given["expires_at"] = LATER
    return Credential(id=id, **(given | fields))


@pytest.fixture
def new_store(log_url: str) -> Callable[[], Store]:
    """Stores over one database."""
    return lambda: open_store(log_url)


@pytest.fixture
async def store(new_store: Callable[[], Store]) -> AsyncIterator[Store]:
    """An open store."""
    opened = new_store()
    await opened.open()
    yield opened
    await opened.close()


async def test_a_credential_is_found_as_it_was_added(store: Store) -> None:
    """By its hash, whole, to the microsecond."""
    full = credential(
        "l1",
        kind="link",
        tenant_id="ténant",
        revoked_at=LATER,
        parent_id="t1",
        person_id="u1",
        person_name="安娜 \U0001f600",
    )
    bare = credential("t1", tenant_id=None, scopes=("write", "read", "export", "admin"))
    for each in (full, bare):
        await store.credentials.add(each)
        assert await store.credentials.find(each.secret_hash) == each


async def test_another_hash_finds_nothing(store: Store) -> None:
    """One bit away there is nothing."""
    one = credential("t1")
    await store.credentials.add(one)
    other = bytes([one.secret_hash[0] ^ 1]) + one.secret_hash[1:]
    assert await store.credentials.find(other) is None


async def test_what_was_added_is_there_for_other_processes(
    store: Store, new_store: Callable[[], Store]
) -> None:
    """Another store over the same database finds it at once, and what became of it."""
    other = new_store()
    await other.open()
    await store.credentials.add(credential("t1"))
    await store.credentials.revoke("t1", NOW)
    found = await other.credentials.find(credential("t1").secret_hash)
    await other.close()
    assert found == credential("t1", revoked_at=NOW)


@pytest.mark.parametrize("same", ["id", "secret_hash"])
async def test_the_same_is_not_added_twice(store: Store, same: str) -> None:
    """Neither an id nor a hash; the first stays as it is."""
    first = credential("t1")
    await store.credentials.add(first)
    again = replace(credential("t2", name="another"), **{same: getattr(first, same)})
    with pytest.raises(EventRefused):
        await store.credentials.add(again)
    assert await store.credentials.listed() == [first]


@pytest.mark.parametrize(
    "bad",
    [
        {"secret_hash": b"x" * 31},
        {"secret_hash": b""},
        {"kind": "cookie", "expires_at": LATER},
        {"kind": "session", "expires_at": None},
        {"kind": "link", "expires_at": None},
        {"kind": "session", "scopes": ("read", "write")},
        {"kind": "link", "scopes": ("admin",)},
        {"scopes": ()},
        {"scopes": ("everything",)},
        {"name": ""},
        {"tenant_id": ""},
        {"parent_id": "t0"},
        {"used_at": NOW},
    ],
    ids=str,
)
async def test_what_can_not_be_is_refused_by_the_database(
    store: Store, bad: dict[str, Any]
) -> None:
    """Whatever program writes it."""
    with pytest.raises(EventRefused):
        await store.credentials.add(credential("bad", **bad))


# --- one use


async def test_a_link_is_used_once(store: Store) -> None:
    """The first call gets it, a second one does not; when is kept."""
    await store.credentials.add(credential("l1", kind="link"))
    assert await store.credentials.use("l1", NOW)
    assert not await store.credentials.use("l1", NOW)
    found = await store.credentials.find(credential("l1").secret_hash)
    assert found is not None
    assert found.used_at == NOW
    assert not found.is_valid(NOW)


async def test_of_many_at_once_one_uses_a_link(
    store: Store, new_store: Callable[[], Store]
) -> None:
    """Through several stores, as of several processes."""
    await store.credentials.add(credential("l1", kind="link"))
    stores = [new_store() for _ in range(4)]
    done = await asyncio.gather(
        *(each.credentials.use("l1", NOW) for each in stores for _ in range(8))
    )
    for each in stores:
        await each.close()
    assert sorted(done) == [False] * 31 + [True]


@pytest.mark.parametrize(
    "unfit",
    [
        {"kind": "link", "expires_at": NOW},
        {"kind": "link", "revoked_at": NOW},
        {"kind": "token"},
        {"kind": "session"},
    ],
    ids=str,
)
async def test_only_a_link_in_its_time_is_used(store: Store, unfit: dict[str, Any]) -> None:
    """No other kind, none that has expired or is revoked."""
    await store.credentials.add(credential("l1", **unfit))
    assert not await store.credentials.use("l1", NOW)


async def test_nothing_uses_what_is_not_there(store: Store) -> None:
    """An id that nobody has is no error."""
    assert not await store.credentials.use("nobody", NOW)


# --- the end of one


async def test_revoking_holds_from_then_on(store: Store) -> None:
    """It ends what was good; what has ended already is left as it is."""
    await store.credentials.add(credential("t1"))
    await store.credentials.add(credential("t2", expires_at=NOW))
    assert await store.credentials.revoke("t1", NOW)
    assert not await store.credentials.revoke("t1", NOW)
    assert not await store.credentials.revoke("t2", NOW)
    assert not await store.credentials.revoke("nobody", NOW)
    (first, second) = await store.credentials.listed()
    assert (first.revoked_at, second.revoked_at) == (NOW, None)
    assert first.is_valid(BEFORE)
    assert not first.is_valid(NOW)


async def test_revoking_may_be_brought_forward_and_not_put_off(store: Store) -> None:
    """One that is to be revoked later can be revoked now."""
    await store.credentials.add(credential("t1"))
    assert await store.credentials.revoke("t1", LATER)
    assert await store.credentials.revoke("t1", NOW)
    assert not await store.credentials.revoke("t1", LATER)
    assert [each.revoked_at for each in await store.credentials.listed()] == [NOW]


@pytest.mark.parametrize("name", ["revoked_at", "expires_at"])
async def test_what_was_made_with_a_token_ends_with_it(store: Store, name: str) -> None:
    """A session is found with the earlier of the two ends, whichever it is."""
    early, late = NOW, NOW + timedelta(days=1)
    for n, (own, tokens) in enumerate([(early, late), (late, early), (late, None), (early, early)]):
        await store.credentials.add(credential(f"t{n}", **{name: tokens}))
        session = credential(f"s{n}", kind="session", parent_id=f"t{n}", **{name: own})
        await store.credentials.add(session)
        found = await store.credentials.find(session.secret_hash)
        assert getattr(found, name) == min(own, tokens or own)


async def test_a_session_ends_once_its_token_is_revoked(store: Store) -> None:
    """Whether it was begun before or afterwards."""
    await store.credentials.add(credential("t1"))
    await store.credentials.add(credential("s1", kind="session", parent_id="t1"))
    await store.credentials.revoke("t1", NOW)
    await store.credentials.add(credential("s2", kind="session", parent_id="t1"))
    for name in ("s1", "s2"):
        found = await store.credentials.find(credential(name).secret_hash)
        assert found is not None
        assert not found.is_valid(NOW)


async def test_a_session_of_no_token_ends_by_itself(store: Store) -> None:
    """Without a parent, or one that is not there, its own times hold."""
    for name, parent_id in (("s1", None), ("s2", "gone")):
        session = credential(name, kind="session", parent_id=parent_id)
        await store.credentials.add(session)
        assert await store.credentials.find(session.secret_hash) == session


# --- all of them


async def test_they_are_listed_by_kind_and_age(store: Store) -> None:
    """The oldest first; ended ones too."""
    for n, kind in enumerate(["token", "session", "token", "link", "token"]):
        made = NOW - timedelta(seconds=n)
        await store.credentials.add(credential(f"c{n}", kind=kind, created_at=made))
    await store.credentials.revoke("c4", NOW)
    assert [each.id for each in await store.credentials.listed()] == ["c4", "c2", "c0"]
    assert [each.id for each in await store.credentials.listed("session")] == ["c1"]


async def test_pruning_removes_what_expired_before(store: Store) -> None:
    """Links and sessions; tokens stay, and so does what lasts longer."""
    kinds: tuple[Kind, ...] = ("token", "link", "session")
    for kind in kinds:
        for age, expires_at in (("old", BEFORE), ("new", NOW)):
            one = credential(f"{kind}-{age}", kind=kind, expires_at=expires_at)
            await store.credentials.add(one)
    assert await store.credentials.prune(NOW) == 2
    assert await store.credentials.prune(NOW) == 0
    left = [each.id for kind in kinds for each in await store.credentials.listed(kind)]
    assert left == ["token-new", "token-old", "link-new", "session-new"]


@given(
    expires=st.none() | st.integers(-2, 2),
    revoked=st.none() | st.integers(-2, 2),
    at=st.integers(-3, 3),
)
def test_it_is_valid_until_the_first_of_its_ends(
    expires: int | None, revoked: int | None, at: int
) -> None:
    """At the very moment of an end it is over."""

    def time(n: int | None) -> datetime | None:
        return None if n is None else NOW + timedelta(seconds=n)

    one = credential("t1", expires_at=time(expires), revoked_at=time(revoked))
    ends = [n for n in (expires, revoked) if n is not None]
    assert one.is_valid(NOW + timedelta(seconds=at)) == (not ends or at < min(ends))
    assert one.ends_at == time(min(ends) if ends else None)


async def test_a_faulty_store_has_the_credentials_of_the_real_one(store: Store) -> None:
    """Tests of faults come in as everybody does."""
    assert FaultyStore(store).credentials is store.credentials


# --- SQLite's own guard


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = NULL",
        "revoked_at = revoked_at + 1",
        "used_at = NULL",
        "used_at = used_at + 1",
        "scopes = 'export'",
        "tenant_id = NULL",
        "expires_at = expires_at + 1",
        "secret_hash = zeroblob(32)",
        "kind = 'session'",
    ],
)
async def test_nothing_comes_back_to_life_in_sqlite(sqlite_url: str, change: str) -> None:
    """What was revoked or used stays so, and nothing else of a credential ever changes."""
    store = open_store(sqlite_url)
    await store.open()
    await store.credentials.add(credential("l1", kind="link"))
    await store.credentials.use("l1", NOW)
    await store.credentials.revoke("l1", NOW)
    await store.close()
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    with pytest.raises(sqlite3.IntegrityError, match="stays so"):
        connection.execute(f"UPDATE muniment_credentials SET {change}")
    connection.close()


async def test_long_searches_keep_nobody_out_of_sqlite(sqlite_url: str) -> None:
    """Whoever fills the threads that search does not keep others from being known."""
    blocked = threading.Event()
    async with AuditLog.open(sqlite_url, sequence=False) as log:
        store: Any = log.store
        searches = [asyncio.create_task(store._read(lambda _: blocked.wait(60))) for _ in range(10)]
        try:
            async with asyncio.timeout(30):
                await asyncio.sleep(0)
                assert await log.store.credentials.find(b"x" * 32) is None
            assert not any(search.done() for search in searches)
        finally:
            blocked.set()
            await asyncio.gather(*searches)


async def test_a_store_that_fails_says_so(store: Store) -> None:
    """What goes wrong is an error of the contract."""
    broken = credential("t1", name="x" * 600)
    with pytest.raises(StoreError):
        await store.credentials.add(broken)
