"""How far a run of fsck has come, in a file, so that another one can go on there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from muniment.errors import InvalidConfig
from muniment.fsck.findings import Finding, Summary
from muniment.fsck.matching import Strays, Trail

Stage = Literal["events", "pending", "trees"]


class State(msgspec.Struct, kw_only=True):
    """All that a run knows. `of`: which log it looks at, whose events in it, and with what keys."""

    of: tuple[str, str | None, tuple[str, ...]]
    stage: Stage = "events"
    until: str | None = None
    """The position up to which every event must have a leaf."""
    after: str | None = None
    """The position of the last event that was looked at."""
    tenant_id: str | None = None
    """The last tenant whose tree was looked at."""
    done: int = 0
    total: int = 0
    """What the progress is counted in: events and leaves."""
    sizes: dict[str, int] = {}
    """The tree_size of each tenant as the run began."""
    trails: dict[str, Trail] = {}
    strays: Strays = msgspec.field(default_factory=Strays)
    summary: Summary = msgspec.field(default_factory=Summary)
    findings: list[Finding] = []
    """The first of them, to be told again by the run that goes on."""


def read_state(path: Path, of: tuple[str, str | None, tuple[str, ...]]) -> State | None:
    """The state of an interrupted run of the same log; None without a file.

    Raises `InvalidConfig` for what is none, or of another log.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidConfig(f"resume: {path}: {error.strerror}") from error
    try:
        state = msgspec.json.decode(content, type=State)
    except msgspec.MsgspecError as error:
        raise InvalidConfig(
            f"resume: {path} is no state of a run of fsck ({error}); name another file"
        ) from None
    if state.of != of:
        raise InvalidConfig(
            f"resume: {path} is of {state.of[0]}, tenant {state.of[1] or 'any'}, with "
            f"{len(state.of[2])} keys; name another file, or give the same ones"
        )
    return state


def write_state(path: Path, state: State) -> None:
    """Put the state in the file, in place of an older one: the whole of it, or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InvalidConfig(f"resume: {path}: {error.strerror}") from error
