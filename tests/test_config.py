from __future__ import annotations

from pathlib import Path

import pytest

from muniment.config import DEFAULT_URL, default_spool_directory, default_url


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, DEFAULT_URL),
        ({"MUNIMENT_URL": ""}, DEFAULT_URL),
        ({"MUNIMENT_URL": "postgresql://db/audit"}, "postgresql://db/audit"),
    ],
)
def test_the_url_comes_from_the_environment(environment: dict[str, str], url: str) -> None:
    """`MUNIMENT_URL` names the store; unset or empty, it is a file in the working directory."""
    assert default_url(environment) == url
    assert DEFAULT_URL == "sqlite:///muniment.db"


@pytest.mark.parametrize(
    ("url", "beside"),
    [
        ("sqlite:///audit.db", "audit.db-spool"),
        ("sqlite:///data/audit.db", "data/audit.db-spool"),
        ("sqlite:////var/lib/audit.db", "/var/lib/audit.db-spool"),
    ],
)
def test_the_spool_of_a_sqlite_file_is_beside_it(url: str, beside: str) -> None:
    """A SQLite file and its spool are found, moved and mounted together."""
    assert default_spool_directory(url, {"XDG_STATE_HOME": "/state"}) == Path(beside)


def test_the_spool_of_a_server_is_in_the_users_state() -> None:
    """The spool of a store on another machine is under `XDG_STATE_HOME`, or its usual place."""
    url = "postgresql://db/audit"
    told = default_spool_directory(url, {"XDG_STATE_HOME": "/state"})
    usual = default_spool_directory(url, {})
    assert told.parent == Path("/state/muniment/spool")
    assert usual.parent == Path.home() / ".local" / "state" / "muniment" / "spool"
    assert told.name == usual.name


def test_the_spool_does_not_move_with_the_password() -> None:
    """A changed user or password finds what the spool still holds, and stands in no path."""
    environment = {"XDG_STATE_HOME": "/state"}
    found = {
        default_spool_directory(url, environment)
        for url in (
            "postgresql://db/audit",
            "postgresql://ann@db/audit",
            "postgresql://ann:secret@db/audit",
            "postgresql://ann:s@cret@db/audit",
            "postgresql+asyncpg://bob:other@db/audit",
        )
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://db/audit", "postgresql://db/other"),
        ("postgresql://db/audit", "postgresql://db2/audit"),
        ("sqlite:////a/audit.db", "sqlite:////b/audit.db"),
        ("sqlite:///audit.db", "postgresql://db/audit"),
    ],
)
def test_two_stores_never_share_a_spool(one: str, other: str) -> None:
    """In a directory for all spools, each store has its own: no event drains into another's."""
    environment = {"MUNIMENT_SPOOL_DIR": "/spool"}
    places = [default_spool_directory(url, environment) for url in (one, other)]
    assert [place.parent for place in places] == [Path("/spool")] * 2
    assert places[0] != places[1]


def test_one_relative_name_is_two_files_in_two_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative SQLite file has the spool of the file that it names from here."""
    environment = {"MUNIMENT_SPOOL_DIR": "/spool"}
    places = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        places.append(default_spool_directory("sqlite:///audit.db", environment))
    full = default_spool_directory(f"sqlite:///{tmp_path / 'other' / 'audit.db'}", environment)
    assert places[0] != places[1] == full
