from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from muniment.http.access import Scope
from muniment.http.auth.secrets import hash_of
from muniment.stores import open_store
from muniment.stores.credentials import Credential
from tests.cli.running import PROGRAM, environment, muniment, search

_CREATE = ("tokens", "create", "--name", "billing", "--scope", "read", "--scope", "write")


def _listed(url: str) -> Sequence[Credential]:
    """The tokens in the store."""

    async def find() -> Sequence[Credential]:
        store = open_store(url)
        try:
            return await store.credentials.listed("token")
        finally:
            await store.close()

    return asyncio.run(find())


def _create(url: str, *more: str) -> str:
    """The id of a new token."""
    muniment(*_CREATE, *(more or ("--all-tenants",)), url=url)
    return _listed(url)[-1].id


def test_a_token_is_printed_alone_and_once(store_url_ready: str) -> None:
    """Stdout is for a pipe or a file; what to know about it is on stderr, without the secret."""
    done = muniment(*_CREATE, "--tenant", "acme", "--expires", "90d", url=store_url_ready)
    (kept,) = _listed(store_url_ready)
    assert done.exit_code == 0
    assert re.fullmatch(r"muniment_[\w-]{43}\n", done.stdout)
    assert kept.secret_hash == hash_of(done.stdout.strip())
    assert (kept.name, kept.scopes, kept.tenant_id) == ("billing", ("write", "read"), "acme")
    assert kept.expires_at == kept.created_at + timedelta(days=90)
    assert done.stdout.strip()[9:] not in done.stderr
    for said in (kept.id, "tenant acme", f"until {kept.expires_at:%Y-%m-%d}"):
        assert said in done.stderr


def test_a_token_without_an_end_says_so(sqlite_url: str) -> None:
    """For all tenants it is if that was asked for."""
    done = muniment(*_CREATE, "--all-tenants", url=sqlite_url)
    (kept,) = _listed(sqlite_url)
    assert (kept.tenant_id, kept.expires_at) == (None, None)
    assert "all tenants, until it is revoked" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "either --tenant ID or --all-tenants"),
        (("--tenant", "acme", "--all-tenants"), "either --tenant ID or --all-tenants"),
        (("--all-tenants", "--expires", "soon"), "'soon' is no length of time"),
        (("--all-tenants", "--expires", "-1d"), "'-1d' is no length of time"),
        (("--all-tenants", "--expires", "0d"), "longer than nothing"),
        (("--all-tenants", "--scope", "everything"), "'everything' is not one of"),
        (("--tenant", ""), "tenant_id: is empty"),
    ],
)
def test_bad_use_makes_no_token(sqlite_url: str, more: tuple[str, ...], said: str) -> None:
    """It is said in a line; no tenant is ever meant by leaving one out."""
    done = muniment(*_CREATE, *more, url=sqlite_url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert list(search(sqlite_url, action="audit.token_*")) == []


def test_the_scopes_are_those_of_the_service() -> None:
    """The command line names them without loading it."""
    done = muniment("tokens", "create", "--help")
    assert f"[{'|'.join(Scope)}]" in done.stdout


def test_the_list_shows_what_each_is_good_for(sqlite_url: str) -> None:
    """No secret, no hash of one; what is over only when asked."""
    secrets = [
        muniment(*_CREATE, *more, url=sqlite_url).stdout.strip()
        for more in (("--tenant", "acme", "--expires", "24h"), ("--all-tenants",))
    ]
    first, second = _listed(sqlite_url)
    muniment("tokens", "revoke", second.id, url=sqlite_url)
    valid = muniment("tokens", "list", url=sqlite_url).stdout
    every = muniment("tokens", "list", "--all", url=sqlite_url).stdout
    for part in (first.id, "billing", "write read", "acme", f"{first.expires_at:%Y-%m-%d %H:%M}"):
        assert part in valid
    assert second.id not in valid
    assert "all tenants" in every
    assert "revoked " in every
    for secret in secrets:
        assert secret[9:] not in every
        assert hash_of(secret).hex() not in every


def test_without_tokens_the_list_says_what_to_do(store_url_ready: str) -> None:
    """On stderr."""
    done = muniment("tokens", "list", url=store_url_ready)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "tokens create" in done.stderr


def test_a_name_can_not_disturb_the_terminal(sqlite_url: str) -> None:
    """What would hide or move others is shown escaped."""
    muniment(
        "tokens", "create", "--name", "a\u202eb", "--scope", "read", "--all-tenants",
        url=sqlite_url,
    )  # fmt: skip
    assert "a\\u202eb" in muniment("tokens", "list", url=sqlite_url).stdout


def test_revoking_ends_one(store_url_ready: str) -> None:
    """Once; who did so is recorded."""
    made = _create(store_url_ready)
    done = muniment("tokens", "revoke", made, url=store_url_ready)
    again = muniment("tokens", "revoke", made, url=store_url_ready)
    (kept,) = _listed(store_url_ready)
    (event,) = search(store_url_ready, action="audit.token_revoke")
    assert (done.exit_code, again.exit_code) == (0, 1)
    assert not kept.is_valid(datetime.now(UTC))
    assert made in done.stdout
    assert "revoked already" in again.stderr
    assert event.targets[0].id == made
    assert event.actor.type == "user"


def test_rotating_prints_the_new_one_alone(store_url_ready: str) -> None:
    """The old one goes on for a day, unless another time is given."""
    made = _create(store_url_ready, "--tenant", "acme")
    done = muniment("tokens", "rotate", made, url=store_url_ready)
    old, new = _listed(store_url_ready)
    assert new.secret_hash == hash_of(done.stdout.strip())
    assert new.tenant_id == "acme"
    assert old.revoked_at == new.created_at + timedelta(hours=24)
    assert f"{old.revoked_at:%Y-%m-%d %H:%M:%S}" in done.stderr
    muniment("tokens", "rotate", new.id, "--grace", "0s", url=store_url_ready)
    assert [each.is_valid(datetime.now(UTC)) for each in _listed(store_url_ready)] == [
        True,
        False,
        True,
    ]


def test_there_is_no_such_token(sqlite_url: str) -> None:
    """One line, exit code 1."""
    _create(sqlite_url)
    for command in ("revoke", "rotate"):
        done = muniment("tokens", command, "nobody", url=sqlite_url)
        assert done.exit_code == 1
        assert "there is no token nobody" in done.stderr


def test_a_real_process_keeps_the_secret_to_stdout(sqlite_url: str) -> None:
    """With everything that the library logs shown, too."""
    done = subprocess.run(
        [*PROGRAM, "--verbose", "--url", sqlite_url, *_CREATE, "--all-tenants"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.strip()[9:] not in done.stderr
