from __future__ import annotations

import asyncio
import functools
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pymerkle
import pytest
import scitt_cose
from tlog_scales import signing, tlog

from tests.proofs.many_writers import Trail, Written, written
from tests.proofs.trails import LOG_KEY
from tests.servers.postgres import Postgres

# A minute of writing, and then as much of reading and checking.
pytestmark = pytest.mark.timeout(900)

_WRITERS = 4


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Written]]:
    """`runs(kind)` is what a run in a store of that kind left: one run for all tests.

    For 60 seconds with --all-rounds.
    """
    all_rounds = request.config.getoption("--all-rounds")
    seconds, interval = (60.0, 1.0) if all_rounds else (3.0, 0.25)
    with ExitStack() as stack:

        @functools.cache
        def run_in(kind: str) -> Written:
            directory = tmp_path_factory.mktemp("writers")
            url = f"sqlite:///{directory / 'audit.db'}"
            if kind == "postgres":
                server: Postgres = request.getfixturevalue("postgres_server")
                name = server.create_database(request.getfixturevalue("postgres_template"))
                stack.callback(server.drop_database, name)
                url = server.url(name)
            seed = random.randrange(1_000_000)  # noqa: S311 - it only has to vary
            found = asyncio.run(
                written(
                    url, directory, writers=_WRITERS, seconds=seconds, interval=interval, seed=seed
                )
            )
            print(f"{kind}, {seconds:.0f} s, seed {seed}: {found.told()}")  # noqa: T201
            return found

        yield run_in


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest, runs: Callable[[str], Written]) -> Written:
    """What four processes left that wrote for ten tenants, in a store of each kind."""
    return runs(request.param)


def test_every_event_is_in_exactly_one_leaf(run: Written) -> None:
    """What was acknowledged, what is stored and what has a leaf are the same, each once."""
    for trail in run.trails:
        acknowledged = set(trail.acknowledged)
        assert 0 < len(acknowledged) == len(trail.acknowledged) == len(trail.event_ids)
        assert acknowledged - set(trail.event_ids) == set()
        assert acknowledged ^ trail.bodies.keys() == set()


def test_every_leaf_is_the_hash_of_its_body(run: Written) -> None:
    """SHA-256 over 0x00 and the stored body is what stands in the tile, leaf by leaf."""
    for trail in run.trails:
        bodies = [trail.bodies[event_id] for event_id in trail.event_ids]
        assert [hashlib.sha256(b"\0" + body).digest() for body in bodies] == trail.leaf_hashes


def test_all_that_was_recorded_is_published(run: Written) -> None:
    """The newest checkpoint covers every leaf, and every one is larger than the one before."""
    for trail in run.trails:
        sizes = [each.tree_size for each in trail.checkpoints]
        assert sizes[-1] == len(trail.event_ids)
        assert sizes == sorted(set(sizes))


def test_every_checkpoint_is_signed(run: Written) -> None:
    """tlog-scales verifies each note, and reads the size and root that are stored beside it."""
    for trail in run.trails:
        vkey = signing.Vkey.from_string(LOG_KEY.for_tenant(trail.tenant_id).verifier.text())
        for each in trail.checkpoints:
            read = tlog.Checkpoint.from_text(each.note)
            read.verify(vkey)
            assert (read.size, read.root_hash) == (each.tree_size, each.root_hash)


def test_every_checkpoint_grew_out_of_those_before(run: Written) -> None:
    """tlog-scales and scitt-cose accept a proof for each pair of neighbours, and others drawn."""
    for trail in run.trails:
        assert len(trail.proofs) >= len(trail.checkpoints) - 1 > 0
        for each in trail.proofs:
            proof = tlog.ConsistencyProof(each.old.tree_size, each.new.tree_size, each.hashes)
            proof.check(each.old.root_hash, each.new.root_hash)
            assert scitt_cose.verify_consistency(
                each.old.root_hash.hex(),
                each.new.root_hash.hex(),
                each.old.tree_size,
                each.new.tree_size,
                [one.hex() for one in each.hashes],
            )


def test_a_checkpoint_of_another_tree_is_refused(run: Written) -> None:
    """The case that must fail: with one tenant's root in another's proof, both checkers refuse."""
    (each, *_), (other, *_) = (trail.proofs for trail in run.trails[:2])
    proof = tlog.ConsistencyProof(each.old.tree_size, each.new.tree_size, each.hashes)
    with pytest.raises(tlog.ConsistencyProofInvalid):
        proof.check(other.old.root_hash, each.new.root_hash)
    assert not scitt_cose.verify_consistency(
        other.old.root_hash.hex(),
        each.new.root_hash.hex(),
        each.old.tree_size,
        each.new.tree_size,
        [one.hex() for one in each.hashes],
    )


def test_roots_are_those_that_others_find(run: Written) -> None:
    """Over the stored bodies, in the order of leaves, pymerkle's root is each checkpoint's."""
    for trail in run.trails:
        tree = _others_tree(trail)
        for each in trail.checkpoints:
            assert tree.get_root(each.tree_size) == each.root_hash


def _others_tree(trail: Trail) -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for event_id in trail.event_ids:
        tree.append_entry(trail.bodies[event_id])
    return tree
