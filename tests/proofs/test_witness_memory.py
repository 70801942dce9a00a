"""What a witness remembers of the logs that it saw."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from muniment.errors import InvalidConfig, StoreError
from muniment.stores.trees import Published
from muniment.witness import Ledger, Seen, Witness
from tests.proofs.trails import LOG_KEY, WITNESS_KEY, Trail
from tests.proofs.witnessing import submit


def _seen(trail: Trail, size: int) -> Seen:
    published: Published = trail.checkpoint(size)
    return Seen(tree_size=size, root_hash=published.root_hash, note=published.note)


def test_a_checkpoint_is_replaced_only_by_who_knows_it(ledger: Ledger) -> None:
    """Of two that go on from the same checkpoint, the second is told that it isn't the last."""
    trail = Trail()
    assert ledger.replace("x", None, _seen(trail, 5))
    assert not ledger.replace("x", None, _seen(trail, 6))
    assert ledger.replace("x", _seen(trail, 5), _seen(trail, 7))
    assert not ledger.replace("x", _seen(trail, 5), _seen(trail, 9))
    assert ledger.latest("x") == _seen(trail, 7)


def test_two_processes_share_one_memory(ledger: Ledger, tmp_path: Path) -> None:
    """What one remembers the other knows: two on one file never cosign two trees."""
    other = Ledger(tmp_path / "witness.db")
    trail = Trail()
    assert ledger.replace("x", None, _seen(trail, 5))
    assert other.latest("x") == _seen(trail, 5)
    assert not other.replace("x", None, _seen(trail, 6))
    other.close()


def test_the_file_itself_refuses_a_rollback(ledger: Ledger) -> None:
    """Even if the witness had a bug: a smaller checkpoint is never written over a larger one."""
    trail = Trail()
    ledger.replace("x", None, _seen(trail, 5))
    with pytest.raises(StoreError, match="never rolled back"):
        ledger.replace("x", _seen(trail, 5), _seen(trail, 4))


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """An audit log, say, or no database at all."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InvalidConfig, match="no witness's file"):
        Ledger(path)
    assert path.read_bytes() == before
    text = tmp_path / "text"
    text.write_text("not a database, and long enough to be looked at as one" * 20)
    with pytest.raises(InvalidConfig, match="no witness's file"):
        Ledger(text)


def test_what_can_be_kept_as_evidence_is_bounded(ledger: Ledger) -> None:
    """Whoever sends bad proofs with good checkpoints does not fill the disk."""
    for n in range(100):
        ledger.keep_refused("x", n, b"\0" * 32, "note")
    ledger.keep_refused("y", 1, b"\0" * 32, "note")
    assert (len(ledger.refused("x")), len(ledger.refused("y"))) == (64, 1)


class _FailsButStores(Ledger):
    """A memory whose commit is on disk, though its answer is lost."""

    broken = False

    def replace(self, origin: str, before: Seen | None, now: Seen) -> bool:
        replaced = super().replace(origin, before, now)
        if self.broken:
            raise StoreError("the disk did not answer")
        return replaced


def test_a_commit_that_failed_but_was_stored_is_found(tmp_path: Path) -> None:
    """No cosignature goes out without memory; the log asks again, and learns where it is."""
    ledger = _FailsButStores(tmp_path / "witness.db")
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    trail = Trail()
    ledger.broken = True
    with pytest.raises(StoreError):
        submit(witness, trail, 0, 5)
    ledger.broken = False
    assert submit(witness, trail, 0, 5).body == "5\n"
    assert submit(witness, trail, 5, 5).code == 200
    ledger.close()


class _Overtaken(Ledger):
    """A memory in which another request is always first."""

    def replace(self, origin: str, before: Seen | None, now: Seen) -> bool:
        super().replace(origin, before, _seen(Trail(), 9))
        return super().replace(origin, before, now)


def test_who_is_overtaken_between_check_and_commit_gets_no_cosignature(tmp_path: Path) -> None:
    """The race of tlog-witness's last paragraph: the tree is not rolled back."""
    ledger = _Overtaken(tmp_path / "witness.db")
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier], ledger)
    answer = submit(witness, Trail(), 0, 5)
    assert (answer.code, answer.body) == (409, "9\n")
    ledger.close()
