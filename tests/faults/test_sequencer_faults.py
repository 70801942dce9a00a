"""A sequencer that is killed, or not answered, at every durable step: no tree is ever harmed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from muniment.diagnostics import Diagnostics
from muniment.sequencer import SequencerOptions, make_sequencer
from tests.faults.dying import ANCHOR, AROUND_THE_LINK, POINTS, STEPS, DyingTrees
from tests.faults.proxy import Proxy
from tests.faults.sequencing import INTERVAL, TENANTS, nursery, site
from tests.faults.tally import Rounds, Tally
from tests.proofs.trails import LOG_KEY

pytestmark = pytest.mark.timeout(1200)

_MOMENTS = [
    *((step, point) for step in STEPS for point in POINTS),
    *((ANCHOR, point) for point in AROUND_THE_LINK),
]
_FAILING = (*STEPS, "why_not", "unpublished", "unanchored", "lag", "tiles")
_LEAST = 20
_SOME_ROUNDS = 10 * INTERVAL


async def test_a_sequencer_may_be_killed_at_every_step(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """The one that comes next goes on as if nothing had been, and is killed at the next moment.

    Meanwhile events are recorded. After each, trees, checkpoints and anchors agree, and fsck finds
    nothing; at the end each event has one leaf, and the witness has cosigned every tenant's newest.
    """
    async with site(log_url, tmp_path, with_witness=True) as here, nursery(here) as sequencers:
        for nth in range(1, rounds(1, 5) + 1):
            for step, point in _MOMENTS:
                async with here.recording():
                    await sequencers.begin(moment=(step, point, nth))
                    await sequencers.died()
                leaves = await here.judged()
                assert (leaves.doubled, leaves.stray) == ((), ())
        async with here.recording():
            await sequencers.begin()
            await here.recorded(30)
        await here.settled()
        await sequencers.finish()
        fault = "SIGKILL of a sequencer at every step"
        tally.add(fault, log_url, await here.judged(), rounds=rounds(1, 5) * len(_MOMENTS))


async def test_a_busy_sequencer_may_be_killed_at_any_time(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """One that records for three tenants as it sequences: each event it acknowledged has a leaf.

    That is at a random moment of each round; the next one goes on.
    """
    random = Random(31)  # noqa: S311 - moments, not secrets
    count = rounds(4, 60)
    async with site(log_url, tmp_path) as here, nursery(here) as sequencers:
        for n in range(count):
            await sequencers.begin(tenants=TENANTS)
            await here.recorded(_LEAST)
            await asyncio.sleep(random.random() * _SOME_ROUNDS)
            await sequencers.kill()
            if n % 4 == 3:
                leaves = await here.judged()
                assert (leaves.doubled, leaves.stray) == ((), ())
        await sequencers.begin()
        await here.settled()
        await sequencers.finish()
        tally.add("SIGKILL of a busy sequencer", log_url, await here.judged(), rounds=count)


async def test_of_two_sequencers_one_may_be_killed_again_and_again(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """The other goes on meanwhile, from wherever the killed one was."""
    random = Random(32)  # noqa: S311 - moments, not secrets
    count = rounds(6, 60)
    async with (
        site(log_url, tmp_path) as here,
        nursery(here) as steady,
        nursery(here) as killed,
    ):
        await steady.begin(tenants=TENANTS[:1])
        for _ in range(count):
            await killed.begin(tenants=TENANTS[1:])
            await here.recorded(_LEAST)
            await asyncio.sleep(random.random() * _SOME_ROUNDS)
            await killed.kill()
        await steady.finish()
        await steady.begin()
        await here.settled()
        await steady.finish()
        tally.add("SIGKILL of one of two sequencers", log_url, await here.judged(), rounds=count)


async def test_a_lost_answer_makes_no_difference(
    postgres_log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """Where the server has committed and the connection is cut, the same process goes on.

    So it is for each durable step in turn: what was done is not done again.
    """
    count = rounds(1, 10)
    async with (
        site(postgres_log_url, tmp_path, with_witness=True) as here,
        nursery(here) as sequencers,
        Proxy(postgres_log_url) as proxy,
    ):
        for step in STEPS * count:
            async with here.recording():
                await sequencers.begin(pause=step, url=proxy.url)
                await sequencers.pauses()
                proxy.cut_answers()
                sequencers.go_on()
                await sequencers.fails(step)
                assert proxy.cuts
                proxy.cuts = 0
                proxy.pass_on()
            await here.settled()
            await sequencers.finish()
            leaves = await here.judged()
            tally.add("answer lost by a sequencer", postgres_log_url, leaves)


async def test_whether_a_failed_step_was_stored_makes_no_difference(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally
) -> None:
    """Each step fails now and then, one half of the times with everything done, or hangs."""
    random = Random(33)  # noqa: S311 - faults, not secrets
    count = rounds(40, 1_000)
    async with site(log_url, tmp_path, with_witness=True) as here:
        trees = DyingTrees(here.store.trees, say=here.note_signed)
        options = SequencerOptions(keys=(LOG_KEY,), anchors=tuple(here.anchors), interval=INTERVAL)
        sequencer = make_sequencer(trees, options, diagnostics=Diagnostics())
        sequencer.start()
        async with here.recording():
            for _ in range(count):
                step = random.choice(_FAILING)
                how = random.choice((trees.fail, trees.fail_but_store, trees.hang))
                how(step)
                await asyncio.sleep(INTERVAL * random.random() * 4)
                trees.heal()
        await here.settled()
        await sequencer.close()
        assert all(trees.done[step] for step in _FAILING)
        fault = "steps of a sequencer fail, or hang"
        tally.add(fault, log_url, await here.judged(), rounds=count)
