"""Settings from the environment, and checks of those that are given."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from muniment.errors import InvalidConfig

DEFAULT_URL: Final = "sqlite:///muniment.db"


def default_url(environment: Mapping[str, str] = os.environ) -> str:
    """The store's URL: `MUNIMENT_URL`, else a SQLite file in the working directory."""
    return environment.get("MUNIMENT_URL") or DEFAULT_URL


def default_spool_directory(url: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where a log over the store at `url` keeps its spool, unless told.

    Under `MUNIMENT_SPOOL_DIR`, else beside a SQLite file, else in the user's state directory
    (`XDG_STATE_HOME`). Where many stores may have theirs, the name is made from the SQLite file's
    full path, or from the URL without user and password: no store gets another one's events.
    """
    scheme, _, rest = url.partition("://")
    file = Path(rest.removeprefix("/")) if scheme == "sqlite" else None
    place = str(file.absolute()) if file else rest.rpartition("@")[2]
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    chosen = environment.get("MUNIMENT_SPOOL_DIR")
    if chosen:
        return Path(chosen) / name
    if file:
        return file.with_name(f"{file.name}-spool")
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "muniment" / "spool" / name


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `InvalidConfig` unless the setting is one of `choices`."""
    if value not in choices:
        msg = f"{name}: {value!r} is none of {', '.join(choices)}"
        raise InvalidConfig(msg)


def above_zero(**settings: object) -> None:
    """Raise `InvalidConfig` unless each setting is a number above zero."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            msg = f"{name}: {value!r} is not a number above 0"
            raise InvalidConfig(msg)
