"""The judge of the sequencer's faults, judged: it must see what those tests are to find."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from muniment.diagnostics import Diagnostics
from muniment.sequencer import SequencerOptions, make_sequencer
from tests.faults.dying import DyingTrees
from tests.faults.oracle import Verdict
from tests.faults.sequencing import Site, site
from tests.faults.trail_oracle import Judgement
from tests.proofs.trails import LOG_KEY, Trail

_NO_FIRST_HASH = "CAST(zeroblob(32) || substr(hashes, 33) AS BLOB)"


@pytest.fixture
async def kept(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site of three trees of some leaves each, all of them published and anchored."""
    async with site(sqlite_url, tmp_path) as here:
        options = SequencerOptions(keys=(LOG_KEY,), anchors=tuple(here.anchors))
        trees = DyingTrees(here.store.trees, say=here.note_signed)
        for _ in range(3):
            await here.record(2)
            await make_sequencer(trees, options, diagnostics=Diagnostics()).run_once()
        yield here


async def _problems(here: Site) -> str:
    return "\n".join((await here.oracle().judge(here.told, here.signed)).problems)


def _alter(here: Site, harm: str) -> None:
    with closing(sqlite3.connect(here.url.removeprefix("sqlite:///"))) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(harm)
        connection.commit()


async def test_the_oracle_is_content_with_a_good_trail(kept: Site) -> None:
    """It has looked at checkpoints in all three places, of which there are some."""
    judgement = await kept.oracle().judge(kept.told, kept.signed)
    assert judgement == Judgement(leaves=Verdict(acknowledged=18), problems=())
    assert len(kept.signed) == 9


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (f"UPDATE muniment_tiles SET hashes = {_NO_FIRST_HASH}", "leaf hashes"),
        ("UPDATE muniment_events SET body = replace(body, 'tick', 'tock')", "another tree"),
        ("DELETE FROM muniment_checkpoints WHERE tree_size = 4", "never published"),
        ("UPDATE muniment_trees SET edge = zeroblob(length(edge))", "fsck: the edge"),
        ("UPDATE muniment_checkpoints SET note = replace(note, '/log', '/gol')", "published"),
    ],
    ids=["a tile", "bodies", "a checkpoint gone", "an edge", "notes"],
)
async def test_the_oracle_sees_what_was_altered(kept: Site, harm: str, said: str) -> None:
    """In the database, with the triggers out of the way."""
    _alter(kept, harm)
    assert said in await _problems(kept)


async def test_the_oracle_sees_a_fork_that_was_only_signed(kept: Site) -> None:
    """Though it is at no anchor, and not in the store."""
    kept.signed.add(("acme", 4, bytes(32)))
    assert "acme: a checkpoint of 4 leaves was signed over another tree" in await _problems(kept)


async def test_the_oracle_sees_a_fork_at_an_anchor(kept: Site) -> None:
    """It is signed with the true key, and of a size that the store has no checkpoint of."""
    await asyncio.to_thread(kept.anchored.keep, Trail("acme").checkpoint(5).note)
    problems = await _problems(kept)
    assert "acme: anchored checkpoint of 5 leaves is of another tree" in problems
    assert "acme: the anchored checkpoint of 5 leaves was never published" in problems


async def test_the_oracle_sees_events_without_and_with_two_leaves(kept: Site) -> None:
    """The event_ids are named."""
    await kept.record(1)
    pending = [event_ids[-1] for event_ids in kept.told.values()]
    twice = "CAST(substr(event_ids, 1, 80) || substr(event_ids, 1, 16) AS BLOB)"
    _alter(kept, f"UPDATE muniment_bundles SET event_ids = {twice}")
    leaves = (await kept.oracle().judge(kept.told, kept.signed)).leaves
    assert set(leaves.doubled) == {event_ids[0] for event_ids in kept.told.values()}
    assert set(leaves.missing) >= set(pending)
