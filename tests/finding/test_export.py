"""Exports of evidence, from both stores: what is in the file, and that it proves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muniment import AuditLog, Event, Outcome
from muniment.errors import InvalidQuery, MunimentError, NotPublished, VerificationError
from muniment.evidence import Verified, verify_evidence
from muniment.exporting import Exported
from tests.cli.running import muniment
from tests.proofs.live import extend
from tests.proofs.tampering import Honest, Tampered, copies, opened
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, Trail
from tests.servers.postgres import Postgres
from tests.stores.leaves import leaves_of

_NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
_SIZE, _OLDER_SIZE, _UNPUBLISHED = 700, 300, 10
_SCATTERED = sorted({0, 255, 256, *Random(5).sample(range(_SIZE), 40)})  # noqa: S311 - the same each time
"""The leaves of acme that are of the action `role_assign`, over three bundles."""


def _event(n: int, tenant_id: str) -> Event:
    return Event(
        action="role_assign" if n in _SCATTERED else "login",
        tenant_id=tenant_id,
        occurred_at=_at(n),
        outcome=Outcome.SUCCESS,
    )


def _at(n: int) -> datetime:
    return _NOON + timedelta(seconds=n)


async def _build(url: str) -> Honest:
    """Acme's trail of 700 published leaves and 10 others, among those of globex."""
    notes = []
    ends = (0, _OLDER_SIZE, _SIZE, _SIZE + _UNPUBLISHED)
    for start, end in pairwise(ends):
        async with AuditLog.open(url, sequence=False) as log:
            await log.record_many(
                [_event(n, tenant) for n in range(start, end) for tenant in ("acme", "globex")]
            )
        published = await extend(url, 0, key=LOG_KEY if end <= _SIZE else None)
        notes.append(published.note if published else "")
    async with opened(url) as store:
        events = {
            tenant: [event_id for event_id, _ in await leaves_of(store, tenant)]
            for tenant in ("acme", "globex")
        }
    return Honest(
        url=url,
        events=events,
        older_note=notes[0],
        newest_note=notes[1],
        size=_SIZE,
        older_size=_OLDER_SIZE,
    )


@pytest.fixture(scope="module")
def sqlite_trail(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """The trail in a SQLite file, which no test changes."""
    return asyncio.run(_build(f"sqlite:///{tmp_path_factory.mktemp('trail') / 'audit.db'}"))


@pytest.fixture(scope="module")
def postgres_trail(postgres_server: Postgres, postgres_template: str) -> Iterator[Honest]:
    """The trail in PostgreSQL, which no test changes."""
    name = postgres_server.create_database(postgres_template)
    yield asyncio.run(_build(postgres_server.url(name)))
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def trail(request: pytest.FixtureRequest) -> Honest:
    """The trail in each kind of store."""
    found: Honest = request.getfixturevalue(f"{request.param}_trail")
    return found


@pytest.fixture
def copy(trail: Honest, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tampered]:
    """A copy of the trail in each kind of store, its triggers off."""
    is_sqlite = trail.url.startswith("sqlite")
    yield from copies(
        trail, tmp_path, None if is_sqlite else request.getfixturevalue("postgres_server")
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be, in a directory in which nothing else is."""
    directory = tmp_path / "evidence"
    directory.mkdir()
    return directory / "acme.jsonl"


async def _export(url: str, path: Path, **asked: Any) -> Exported:
    async with AuditLog.open(url, sequence=False) as log:
        return await log.export_evidence(path, **{"tenant_id": "acme", **asked})


def _verified(path: Path, old_checkpoint: str | None = None) -> Verified:
    with path.open("rb") as file:
        return verify_evidence(file, [LOG_KEY.verifier], old_checkpoint=old_checkpoint)


def _ids(path: Path) -> list[str]:
    """The events in the file, in their order."""
    lines = map(json.loads, path.read_bytes().split(b"\n")[1:-1])
    return [line["event_id"] for line in lines if "event_id" in line]


def _chosen(trail: Honest, leaves: range | list[int]) -> list[str]:
    return [trail.events["acme"][n] for n in leaves]


# --- what is in the file


async def test_all_that_is_published(trail: Honest, path: Path) -> None:
    """The events under the checkpoint in the order of recording; newer leaves are counted only."""
    done = await _export(trail.url, path)
    assert done == Exported(events=_SIZE, erased=0, tree_size=_SIZE, unpublished=_UNPUBLISHED)
    assert _ids(path) == _chosen(trail, range(_SIZE))
    verified = _verified(path)
    assert (verified.events, verified.omitted, verified.tree_size) == (_SIZE, 0, _SIZE)


async def test_a_time_window(trail: Honest, path: Path) -> None:
    """From `since` on and before `until`, and nothing between is left out."""
    done = await _export(trail.url, path, since=_at(100), until=_at(600))
    assert done.events == 500
    assert _ids(path) == _chosen(trail, range(100, 600))
    verified = _verified(path)
    assert (verified.first_leaf, verified.last_leaf) == (100, 599)
    assert (verified.omitted, verified.omitted_within) == (200, 0)


async def test_scattered_events(trail: Honest, path: Path) -> None:
    """The gaps between them, in all three bundles, are hashes."""
    await _export(trail.url, path, action="role_*")
    assert _ids(path) == _chosen(trail, _SCATTERED)
    verified = _verified(path)
    first, last = _SCATTERED[0], _SCATTERED[-1]
    assert (verified.first_leaf, verified.last_leaf) == (first, last)
    assert verified.omitted_within == last - first + 1 - len(_SCATTERED)
    assert verified.filter["action"] == ["role_*"]


async def test_nothing_that_is_asked_for(trail: Honest, path: Path) -> None:
    """Then the file holds hashes alone, and verifies."""
    done = await _export(trail.url, path, action="no_such_action")
    assert (done.events, done.tree_size) == (0, _SIZE)
    verified = _verified(path)
    assert (verified.events, verified.omitted, verified.first_leaf) == (0, _SIZE, None)


async def test_an_erased_event_is_there_by_its_hash(copy: Tampered, path: Path) -> None:
    """When only times are asked for: nobody can tell any more what else it was."""
    erased = copy.honest.events["acme"][_SCATTERED[3]]
    copy.erase(erased)
    done = await _export(copy.url, path, since=_at(0), until=_at(_SIZE))
    assert (done.events, done.erased) == (_SIZE - 1, 1)
    assert erased not in _ids(path)
    verified = _verified(path)
    assert (verified.events, verified.erased, verified.omitted) == (_SIZE - 1, 1, 0)


async def test_an_erased_event_is_left_out_if_more_is_asked_for(copy: Tampered, path: Path) -> None:
    """Its leaf is one of those that are not in the file."""
    copy.erase(copy.honest.events["acme"][_SCATTERED[3]])
    done = await _export(copy.url, path, action="role_assign")
    assert (done.events, done.erased) == (len(_SCATTERED) - 1, 0)
    assert _verified(path).erased == 0


async def test_an_older_checkpoint(trail: Honest, path: Path) -> None:
    """The file proves that its tree grew into the newest one."""
    await _export(trail.url, path, old_checkpoint=trail.older_note, action="role_*")
    assert _verified(path).consistent_with == (_OLDER_SIZE,)
    assert _verified(path, trail.older_note).consistent_with == (_OLDER_SIZE,)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (Trail(key=OTHER_LOG_KEY).checkpoint(9), "other.example"),
        (Trail(story="another").checkpoint(9), "is not consistent with the one of 9"),
    ],
)
async def test_an_older_checkpoint_of_another_trail(
    trail: Honest, path: Path, old: Any, message: str
) -> None:
    """Of another log, or of a history that this one did not grow out of: no file is written."""
    with pytest.raises(VerificationError, match=message):
        await _export(trail.url, path, old_checkpoint=old.note)
    assert list(path.parent.iterdir()) == []


@settings(max_examples=60)
@given(
    first=st.integers(-1, _SIZE + 1),
    length=st.integers(0, _SIZE),
    action=st.sampled_from([None, "role_assign", "login"]),
)
def test_any_part_verifies(
    sqlite_trail: Honest,
    tmp_path_factory: pytest.TempPathFactory,
    first: int,
    length: int,
    action: str | None,
) -> None:
    """Wherever it begins and ends, and whatever of it is left out."""
    path = tmp_path_factory.mktemp("part") / "acme.jsonl"
    wanted = {"since": _at(first), "until": _at(first + length)}
    asked = wanted if action is None else {**wanted, "action": action}
    leaves = [
        n
        for n in range(max(0, first), min(_SIZE, first + length))
        if action is None or _event(n, "acme").action == action
    ]
    asyncio.run(_export(sqlite_trail.url, path, **asked))
    assert _ids(path) == _chosen(sqlite_trail, leaves)
    assert _verified(path).events == len(leaves)


async def test_progress_is_told_to_its_end(trail: Honest, path: Path) -> None:
    """Twice the leaves under the checkpoint, whichever of them are asked for."""
    told: list[tuple[int, int]] = []
    await _export(
        trail.url, path, action="role_*", progress=lambda done, total: told.append((done, total))
    )
    assert {total for _, total in told} == {2 * _SIZE}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == 2 * _SIZE


# --- what is refused


async def test_an_edited_event_is_not_exported(copy: Tampered, path: Path) -> None:
    """Its body has another hash than its leaf, and nothing is left behind."""
    copy.edit_body(copy.honest.events["acme"][300])
    with pytest.raises(VerificationError, match="leaf 300: the body has not the leaf's hash"):
        await _export(copy.url, path)
    assert list(path.parent.iterdir()) == []


async def test_a_well_made_edit_is_not_exported(copy: Tampered, path: Path) -> None:
    """With its columns changed too, the leaves don't lead to the checkpoint."""
    copy.edit_event(copy.honest.events["acme"][300])
    with pytest.raises(VerificationError):
        await _export(copy.url, path)
    assert list(path.parent.iterdir()) == []


async def test_a_missing_event_is_named(copy: Tampered, path: Path) -> None:
    """Which one, which leaf it was, and what to run; nothing is left behind."""
    event_id = copy.honest.events["acme"][300]
    copy.delete([event_id])
    with pytest.raises(MunimentError, match=rf"event {event_id}, leaf 300 .*`muniment fsck`"):
        await _export(copy.url, path)
    assert list(path.parent.iterdir()) == []


def test_a_file_that_is_there_stays_if_the_export_fails(copy: Tampered, path: Path) -> None:
    """It is replaced by one that is whole, and by nothing else."""
    asyncio.run(_export(copy.url, path, action="role_*"))
    before = path.read_bytes()
    copy.edit_body(copy.honest.events["acme"][300])
    with pytest.raises(VerificationError):
        asyncio.run(_export(copy.url, path))
    assert path.read_bytes() == before


async def test_a_log_that_is_bound_to_another_tenant(trail: Honest, path: Path) -> None:
    """It exports its own tenant's evidence and nobody else's."""
    async with AuditLog.open(trail.url, tenant_id="globex", sequence=False) as log:
        with pytest.raises(InvalidQuery, match="bound to 'globex'"):
            await log.export_evidence(path, tenant_id="acme")
    assert list(path.parent.iterdir()) == []


async def test_a_tenant_is_needed(trail: Honest, path: Path) -> None:
    """Each has a trail of its own."""
    with pytest.raises(InvalidQuery, match="tenant_id"):
        await _export(trail.url, path, tenant_id=None)


async def test_without_a_checkpoint_there_is_no_evidence(trail: Honest, path: Path) -> None:
    """Globex has leaves, and nobody signed for them."""
    with pytest.raises(NotPublished, match="globex"):
        await _export(trail.url, path, tenant_id="globex")
    assert list(path.parent.iterdir()) == []


# --- the command


def test_the_command_writes_what_the_other_verifies(trail: Honest, path: Path) -> None:
    """It says how many events there are, and how many newer leaves are not in it."""
    done = muniment(
        "export",
        *("--tenant", "acme", "--since", _at(100).isoformat(), "--until", _at(600).isoformat()),
        *("--evidence", path),
        url=trail.url,
        columns=500,
    )
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"500 events, of 700 under the checkpoint, are in {path}" in done.stderr
    assert "not published yet, and not in it: 10 newer leaves" in done.stderr
    done = muniment("verify", path, "--key", LOG_KEY.verifier.text())
    assert done.exit_code == 0
    assert "500 events of tenant acme, in leaves 100 to 599" in done.stdout


def test_the_command_tells_of_erased_events(copy: Tampered, path: Path) -> None:
    """They are counted with the others, and told apart."""
    copy.erase(copy.honest.events["acme"][7])
    done = muniment("export", "--tenant", "acme", "--evidence", path, url=copy.url, columns=500)
    assert "700 events, 1 of them erased, of 700 under the checkpoint" in done.stderr


def test_the_command_proves_an_older_checkpoint(trail: Honest, path: Path, tmp_path: Path) -> None:
    """It is read from a file."""
    old = tmp_path / "old"
    old.write_text(trail.older_note)
    done = muniment(
        *("export", "--tenant", "acme", "--action", "role_*"),
        *("--evidence", path, "--old-checkpoint", old),
        url=trail.url,
    )
    assert done.exit_code == 0
    assert _verified(path).consistent_with == (_OLDER_SIZE,)


def test_the_command_leaves_no_file_of_what_was_edited(copy: Tampered, path: Path) -> None:
    """It fails with one line that says which leaf it is."""
    copy.edit_body(copy.honest.events["acme"][300])
    done = muniment("export", "--tenant", "acme", "--evidence", path, url=copy.url, columns=500)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "leaf 300" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--evidence", "{path}"), "--tenant is needed"),
        (("--tenant", "acme"), "--evidence"),
        (
            ("--tenant", "acme", "--evidence", "{path}", "--old-checkpoint", "{path}.none"),
            "--old-checkpoint: ",
        ),
    ],
)
def test_bad_use_of_the_command(
    sqlite_trail: Honest, path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """It is told, and nothing is written."""
    given = [each.format(path=path) for each in arguments]
    done = muniment("export", *given, url=sqlite_trail.url, columns=500)
    assert done.exit_code != 0
    assert message in done.stderr
    assert list(path.parent.iterdir()) == []
