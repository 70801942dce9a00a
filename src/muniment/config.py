"""Settings from the environment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT_URL: Final = "sqlite:///muniment.db"


def default_url(environment: Mapping[str, str] = os.environ) -> str:
    """The store's URL: `MUNIMENT_URL`, else a SQLite file in the working directory."""
    return environment.get("MUNIMENT_URL") or DEFAULT_URL


def default_spool_directory(url: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where a log over the store at `url` keeps its spool, unless told.

    `MUNIMENT_SPOOL_DIR`, else beside a SQLite file, else in the user's state directory
    (`XDG_STATE_HOME`), under a name made from the URL without its password.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        file = Path(rest.removeprefix("/"))
        beside = file.with_name(file.name + "-spool")
    else:
        place = rest.rpartition("@")[2]
        name = hashlib.sha256(place.encode()).hexdigest()[:16]
        state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        beside = Path(state) / "muniment" / "spool" / name
    chosen = environment.get("MUNIMENT_SPOOL_DIR")
    if chosen:
        return Path(chosen) / beside.name
    return beside
