from __future__ import annotations

import base64
import hashlib

import pytest
from tlog_scales.signing import Vkey, VkeySet
from tlog_scales.tlog import Checkpoint as ScalesCheckpoint

from muniment.anchors.add_checkpoint import request_body
from muniment.checkpoint import add_signatures, cosignatures, sign_note
from muniment.errors import InvalidKey
from muniment.keys import SigningKey
from muniment.merkle import EMPTY_ROOT
from muniment.witness import Ledger, Witness
from tests.proofs.trails import LOG_KEY, OTHER_LOG_KEY, OTHER_WITNESS_KEY, WITNESS_KEY, Trail
from tests.proofs.witnessing import NOW, submit


def test_a_first_checkpoint_is_cosigned(witness: Witness) -> None:
    """The answer is a signature line of the witness's key, with the time by its clock."""
    trail = Trail()
    answer = submit(witness, trail, 0, 5)
    assert answer.code == 200
    note = add_signatures(trail.checkpoint(5).note, [answer.body])
    assert cosignatures(note, [WITNESS_KEY.verifier]) == [("witness.example/w1", NOW)]


def test_other_peoples_code_verifies_the_cosignature(witness: Witness) -> None:
    """tlog-scales accepts it on the checkpoint, and not on another one."""
    trail = Trail()
    line = submit(witness, trail, 0, 5).body
    keys = VkeySet(Vkey.from_string(WITNESS_KEY.verifier.text()))
    cosigned = ScalesCheckpoint.from_text(add_signatures(trail.checkpoint(5).note, [line]))
    assert len(keys.verify(cosigned.signatures, cosigned)) == 1
    forged = ScalesCheckpoint.from_text(
        add_signatures(Trail(story="another").checkpoint(5).note, [line])
    )
    assert keys.verify(forged.signatures, forged) == set()


@pytest.mark.parametrize(("old_size", "size"), [(5, 6), (5, 8), (8, 9), (7, 64), (1, 2)])
def test_a_tree_that_grew_is_cosigned(witness: Witness, old_size: int, size: int) -> None:
    """With a proof from the last size that the witness cosigned."""
    trail = Trail()
    submit(witness, trail, 0, old_size)
    assert submit(witness, trail, old_size, size).code == 200


def test_the_same_checkpoint_again_is_cosigned_again(witness: Witness) -> None:
    """A log whose answer was lost on the way asks again, from its own size."""
    trail = Trail()
    submit(witness, trail, 0, 5)
    assert submit(witness, trail, 5, 5).code == 200


def test_an_empty_tree_is_cosigned(witness: Witness) -> None:
    """And a tree that grew out of it, whose proof is empty too."""
    trail = Trail()
    assert submit(witness, trail, 0, 0).code == 200
    assert submit(witness, trail, 0, 3).code == 200


def test_an_empty_tree_has_the_empty_root(witness: Witness) -> None:
    """tlog-witness: size zero with another root is 422."""
    key = LOG_KEY.for_tenant("acme")
    root = base64.b64encode(b"\1" * 32).decode()
    note = sign_note(f"{key.name}\n0\n{root}\n", [key])
    assert EMPTY_ROOT != b"\1" * 32
    assert witness.add_checkpoint(request_body(0, [], note)).code == 422


@pytest.mark.parametrize("old_size", [0, 4, 6])
def test_another_old_size_than_the_last_is_a_conflict(witness: Witness, old_size: int) -> None:
    """The answer says which size the witness has, in its own media type."""
    trail = Trail()
    submit(witness, trail, 0, 5)
    answer = submit(witness, trail, old_size, 7)
    assert (answer.code, answer.body, answer.media_type) == (409, "5\n", "text/x.tlog.size")


def test_a_witness_that_saw_nothing_has_size_zero(witness: Witness) -> None:
    """Whoever thinks that it saw something is told."""
    answer = submit(witness, Trail(), 3, 5)
    assert (answer.code, answer.body) == (409, "0\n")


def test_a_smaller_checkpoint_is_not_cosigned(witness: Witness) -> None:
    """A log that was rolled back finds no witness for it."""
    trail = Trail()
    submit(witness, trail, 0, 9)
    assert submit(witness, trail, 5, 5).code == 409
    assert witness.add_checkpoint(request_body(9, [], trail.checkpoint(5).note)).code == 400


def test_another_tree_of_the_same_size_is_not_cosigned(witness: Witness, ledger: Ledger) -> None:
    """It is a fork, signed by the log: the witness keeps it as evidence."""
    submit(witness, Trail(), 0, 5)
    fork = Trail(story="another")
    assert submit(witness, fork, 5, 5).code == 422
    assert ledger.refused(fork.key.name) == [fork.checkpoint(5).note]


def test_a_tree_that_does_not_hold_the_last_one_is_not_cosigned(
    witness: Witness, ledger: Ledger
) -> None:
    """The tree was rebuilt over other leaves, and signed by the true key."""
    trail, fork = Trail(), Trail(story="another")
    submit(witness, trail, 0, 5)
    assert submit(witness, fork, 5, 9).code == 422
    seen = ledger.latest(trail.key.name)
    assert seen is not None
    assert seen.tree_size == 5


@pytest.mark.parametrize("change", ["missing", "extra", "altered"])
def test_a_bad_proof_is_refused(witness: Witness, change: str) -> None:
    """One hash less, one more, or another one."""
    trail = Trail()
    submit(witness, trail, 0, 5)
    proof = trail.proof(5, 9)
    proof = {
        "missing": proof[1:],
        "extra": [*proof, b"\0" * 32],
        "altered": [b"\0" * 32, *proof[1:]],
    }[change]
    note = trail.checkpoint(9).note
    assert witness.add_checkpoint(request_body(5, proof, note)).code == 422


def test_a_proof_from_nothing_is_empty(witness: Witness) -> None:
    """tlog-witness: hashes where the old size is zero are 422."""
    note = Trail().checkpoint(5).note
    assert witness.add_checkpoint(request_body(0, [b"\0" * 32], note)).code == 422


def test_a_log_that_it_does_not_know_is_not_found(witness: Witness) -> None:
    """Whoever signed."""
    assert submit(witness, Trail(key=OTHER_LOG_KEY), 0, 5).code == 404


@pytest.mark.parametrize("suffix", ["/a/b", "/%61cme", "/", "x/acme", "/%ff", "/acme%2f"])
def test_only_a_tenants_one_spelling_is_known(witness: Witness, suffix: str) -> None:
    """An origin below a trusted name is a tenant's, as the log itself would write it."""
    key = SigningKey.from_seed(f"{LOG_KEY.name}{suffix}", b"\1" * 32)
    root = base64.b64encode(EMPTY_ROOT).decode()
    note = sign_note(f"{key.name}\n0\n{root}\n", [key])
    assert witness.add_checkpoint(request_body(0, [], note)).code == 404


def test_the_key_of_one_log_is_enough(ledger: Ledger) -> None:
    """A witness may trust a single tenant's log, by its own key."""
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier.for_tenant("acme")], ledger)
    assert submit(witness, Trail("acme"), 0, 5).code == 200
    assert submit(witness, Trail("beta"), 0, 5).code == 404


def test_a_key_that_is_trusted_for_one_log_vouches_for_no_other(ledger: Ledger) -> None:
    """Its seed signs for every origin below its name, and none of them is known."""
    own = LOG_KEY.for_tenant("acme")
    witness = Witness(WITNESS_KEY, [], ledger, trusted_only=[own.verifier])
    assert submit(witness, Trail("acme"), 0, 5).code == 200
    assert submit(witness, Trail("beta"), 0, 5).code == 404
    for below in ("acme", "zz"):
        assert submit(witness, Trail(below, key=own), 0, 5).code == 404


def test_both_keys_of_a_rotation_are_trusted(ledger: Ledger) -> None:
    """The log goes on under a new key of the same name."""
    new = SigningKey.from_seed(LOG_KEY.name, b"\7" * 32)
    witness = Witness(WITNESS_KEY, [LOG_KEY.verifier, new.verifier], ledger)
    submit(witness, Trail(), 0, 5)
    assert submit(witness, Trail(key=new), 5, 9).code == 200


def test_a_checkpoint_that_no_trusted_key_signed_is_forbidden(witness: Witness) -> None:
    """The origin is a known log's, and the key another's."""
    impostor = SigningKey.from_seed(LOG_KEY.name, b"\6" * 32)
    assert submit(witness, Trail(key=impostor), 0, 5).code == 403


def test_a_checkpoint_that_another_tenant_signed_is_forbidden(witness: Witness) -> None:
    """Tenants' keys share a seed, but not their names."""
    key, other = LOG_KEY.for_tenant("acme"), LOG_KEY.for_tenant("beta")
    root = base64.b64encode(EMPTY_ROOT).decode()
    note = sign_note(f"{key.name}\n0\n{root}\n", [other])
    assert witness.add_checkpoint(request_body(0, [], note)).code == 403


def test_a_signature_that_does_not_hold_is_forbidden(witness: Witness) -> None:
    """tlog-witness: 403 also if the key is known and the signature is wrong."""
    altered = Trail().checkpoint(5).note.replace("\n5\n", "\n6\n")
    assert witness.add_checkpoint(request_body(0, [], altered)).code == 403


def test_tenants_are_remembered_apart(witness: Witness) -> None:
    """One tenant's size says nothing of another's."""
    submit(witness, Trail("acme"), 0, 5)
    assert submit(witness, Trail("beta"), 0, 3).code == 200


def test_the_newest_checkpoint_is_shown_with_both_signatures(witness: Witness) -> None:
    """tlog-witness: for monitors, without signature lines of strangers."""
    trail = Trail()
    note = add_signatures(trail.checkpoint(5).note, [_a_strangers_line(trail)])
    witness.add_checkpoint(request_body(0, [], note))
    shown = witness.checkpoint(hashlib.sha256(trail.key.name.encode()).hexdigest())
    assert shown is not None
    assert shown.startswith(trail.checkpoint(5).note)
    assert len(cosignatures(shown, [WITNESS_KEY.verifier])) == 1
    assert "stranger.example" not in shown


def _a_strangers_line(trail: Trail) -> str:
    stranger = SigningKey.from_seed("stranger.example", b"\5" * 32)
    return sign_note(trail.checkpoint(5).note.partition("\n\n")[0] + "\n", [stranger]).split("\n")[
        -2
    ]


@pytest.mark.parametrize(("key", "trusted"), [(LOG_KEY, LOG_KEY), (WITNESS_KEY, OTHER_WITNESS_KEY)])
def test_a_key_of_the_wrong_kind_is_refused(
    ledger: Ledger, key: SigningKey, trusted: SigningKey
) -> None:
    """A witness does not sign with a log's key, nor trust another witness as a log."""
    with pytest.raises(InvalidKey):
        Witness(key, [trusted.verifier], ledger)
    with pytest.raises(InvalidKey):
        Witness(key, [], ledger, trusted_only=[trusted.verifier])
