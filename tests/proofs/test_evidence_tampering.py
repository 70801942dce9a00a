"""What was done to the events of an evidence file, or to its checkpoints, is found."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest

from muniment.errors import InvalidKey, VerificationError
from muniment.event import Outcome
from muniment.evidence import verify_evidence
from muniment.keys import SigningKey
from tests.proofs.evidence_edits import LEAVES, edited, refused, with_header
from tests.proofs.evidence_files import (
    KEY,
    OTHER_KEY,
    bodies,
    body,
    consistency,
    note_of,
    verify,
    write,
)

# --- what was done to the events


def test_an_edited_body_is_found(whole: bytes) -> None:
    """An event that is sound in itself, but not what was signed, leads to another root."""
    file = whole.replace(b'"id":"u3"', b'"id":"u4"', 1)
    assert "edited, removed, added or moved" in refused(file)


def test_a_removed_line_is_found(whole: bytes) -> None:
    """One event fewer is not the tree that was signed."""
    assert "20 of 21 leaves" in refused(edited(whole, lambda lines: lines.pop(7)))


def test_the_newest_events_removed_are_found(whole: bytes) -> None:
    """A file that was cut off where a line ends is too short for its checkpoint."""
    assert "11 of 21 leaves" in refused(
        edited(whole, lambda lines: lines.__delitem__(slice(12, None)))
    )


def test_swapped_lines_are_found(whole: bytes) -> None:
    """Order counts: the same events in another order are another tree."""

    def swap(lines: list[bytes]) -> None:
        lines[4], lines[5] = lines[5], lines[4]

    assert "moved" in refused(edited(whole, swap))


def test_a_forged_line_is_found(whole: bytes) -> None:
    """A line too many is named, where the tree is full."""
    file = edited(whole, lambda lines: lines.insert(5, body(1000) + b"\n"))
    assert refused(file) == "line 23 (leaf 21): goes beyond the checkpoint's tree of 21 leaves"


def test_a_forged_line_in_place_of_another_is_found(whole: bytes) -> None:
    """As many lines as there were, but not the same ones."""
    assert "root" in refused(edited(whole, lambda lines: lines.__setitem__(5, body(99) + b"\n")))


def test_another_tenant_s_event_is_found(tmp_path: Path) -> None:
    """Even if the log's owner signed it in: its tenant is another."""
    leaves = [*LEAVES[:4], body(4, tenant_id="beta"), *LEAVES[5:]]
    file = write(tmp_path / "evidence", leaves)
    assert refused(file) == "line 6 (leaf 4): is an event of another tenant, beta"


def test_an_event_that_comes_twice_is_found(tmp_path: Path) -> None:
    """A log that was signed with one event_id at two places is not sound."""
    for again in (LEAVES[2], body(2, outcome=Outcome.DENIED)):
        file = write(tmp_path / "evidence", [*LEAVES[:9], again, *LEAVES[9:]])
        assert re.match(r"line 11 \(leaf 9\): has the event_id .* twice", refused(file))


def test_a_body_that_is_not_canonical_is_found(tmp_path: Path) -> None:
    """Signed or not, another spelling of an event is not its body."""
    odd = LEAVES[2].replace(b'{"action":"role_assign",', b'{"action":"role_assign", ')
    file = write(tmp_path / "evidence", [*LEAVES[:2], odd])
    assert "line 4 (leaf 2): is an event, but not in its canonical form" in refused(file)


def test_the_first_of_several_faults_is_named(part: bytes) -> None:
    """What is wrong first is told first, whatever kind of line it is."""

    def spoil(lines: list[bytes]) -> None:
        lines[4] = b'{"leaf_hash":"AAAA"}\n'  # the erased one
        lines[7] = b'{"action":"x"}\n'

    assert "line 5 (leaf 8): has a hash of 3 bytes" in refused(edited(part, spoil))


# --- what was done to the checkpoint


def test_the_checkpoint_of_another_log_is_found(whole: bytes) -> None:
    """A checkpoint of another tenant does not do, whoever signed it."""
    note = note_of(LEAVES, tenant_id="beta")
    file = with_header(whole, checkpoint=note)
    assert "key_ids are not those" in refused(file)
    other = f"example.com/audit/beta+{KEY.for_tenant('beta').verifier.key_id.hex()}"
    file = with_header(whole, checkpoint=note, key_ids=[other])
    assert "none of the keys given" in refused(file)
    with pytest.raises(VerificationError, match="none of the keys given"):
        verify(file, KEY.verifier, KEY.for_tenant("beta").verifier)
    with pytest.raises(VerificationError, match="audit/acme, not of"):
        verify(with_header(whole, origin="example.com/acme"))
    file = with_header(file, origin="example.com/audit/beta")
    assert "is not of the tenant acme" in refused(file)


def test_an_older_checkpoint_in_place_of_the_newest_is_found(whole: bytes) -> None:
    """With the checkpoint of 9 leaves, the tenth is one too many."""
    assert "beyond" in refused(with_header(whole, checkpoint=note_of(LEAVES, 9)))
    assert "leaf 9" in refused(with_header(whole, checkpoint=note_of(LEAVES, 9), leaves=9))


def test_another_key_is_found(whole: bytes) -> None:
    """A file that somebody else signed, or nobody, does not hold; and it says who did."""
    message = refused(write_signed_by(whole, OTHER_KEY))
    assert "none of the keys given" in message
    assert OTHER_KEY.for_tenant("acme").verifier.key_id.hex() in message
    unsigned = note_of(LEAVES).rpartition("\u2014")[0]
    assert "line 1" in refused(with_header(whole, checkpoint=unsigned, key_ids=[]))


def write_signed_by(whole: bytes, key: SigningKey) -> bytes:
    """The file as if another key had signed it."""
    key_id = key.for_tenant("acme").verifier.key_id.hex()
    return with_header(
        whole, checkpoint=note_of(LEAVES, key=key), key_ids=[f"example.com/audit/acme+{key_id}"]
    )


def test_a_signature_of_another_text_is_found(whole: bytes) -> None:
    """The signature must be the known key's, on this very checkpoint."""
    text = note_of(bodies(20)).partition("\n\n")[0]
    signed = note_of(LEAVES).partition("\n\n")[2]
    assert "does not hold" in refused(with_header(whole, checkpoint=f"{text}\n\n{signed}"))


def test_a_signature_under_the_log_s_own_name_is_not_the_tenant_s(whole: bytes) -> None:
    """The seed is the same for all tenants: only the name tells their logs apart."""
    text = note_of(LEAVES).partition("\n\n")[0] + "\n"
    signature = base64.b64encode(KEY.verifier.key_id + KEY.sign(text.encode())).decode()
    note = f"{text}\n\u2014 {KEY.name} {signature}\n"
    key_ids = [f"{KEY.name}+{KEY.verifier.key_id.hex()}"]
    assert "signed by" in refused(with_header(whole, checkpoint=note, key_ids=key_ids))


def test_keys_that_cannot_be_told_apart_are_the_caller_s_fault(whole: bytes) -> None:
    """Only what is in the file is a `VerificationError`."""
    with pytest.raises(VerificationError, match="none of the keys"):
        verify_evidence(io.BytesIO(whole), [])
    assert issubclass(InvalidKey, ValueError)


# --- an older checkpoint


def test_a_fork_is_found(whole: bytes) -> None:
    """A tree rebuilt over altered events, signed with the true key, is not what was seen before."""
    forked = [*LEAVES[:3], body(3, outcome=Outcome.DENIED), *LEAVES[4:]]
    message = refused(whole, old_checkpoint=note_of(forked, 9))
    assert message.startswith("line 2 (leaf 9): the first 9 leaves are not those of the older")
    assert "forked" in refused(whole, old_checkpoint=note_of(forked))


def test_a_rollback_is_found(tmp_path: Path) -> None:
    """A file with fewer leaves than were seen before is older, or the log lost some."""
    file = write(tmp_path / "evidence", LEAVES[:12])
    assert "rolled back" in refused(file, old_checkpoint=note_of(LEAVES))


def test_an_older_checkpoint_must_be_signed_and_of_this_log(whole: bytes) -> None:
    """An older checkpoint that nobody vouches for proves nothing."""
    for note in (
        note_of(LEAVES, 9, key=OTHER_KEY),
        note_of(LEAVES, 9, tenant_id="beta"),
        "",
        b"\xff",
        "nonsense",
    ):
        message = refused(whole, old_checkpoint=note)
        assert message.startswith("the older checkpoint given: ")


def test_the_file_s_own_older_checkpoint_must_be_proved(part: bytes) -> None:
    """Its proof leads from the one root to the other, or the file doesn't hold."""
    proof = [base64.b64encode(each).decode() for each in consistency(LEAVES, 9)]
    for wrong in (proof[:-1], proof[::-1], [*proof, proof[0]], ["AAAA"], [], ["!"], "x"):
        assert refused(with_header(part, consistency=wrong)).startswith("line 1: ")
    wrong_size = with_header(part, old_checkpoint=note_of(LEAVES, 10))
    assert refused(wrong_size).startswith("line 1: ")
    assert "no old_checkpoint" in refused(with_header(part, old_checkpoint=...))
