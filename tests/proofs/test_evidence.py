from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import merkle
from muniment.checkpoint import Checkpoint, add_signatures, cosign, sign_checkpoint
from muniment.errors import VerificationError
from muniment.evidence import verify_evidence
from muniment.keys import KeyKind, SigningKey
from tests.proofs.evidence_edits import LEAVES, refused, with_header
from tests.proofs.evidence_files import KEY, bodies, note_of, verify, write

_WITNESS = SigningKey.from_seed("example.org/witness", b"3" * 32, kind=KeyKind.WITNESS)


# --- what holds


def test_a_whole_log_holds(whole: bytes) -> None:
    """The report says what the file proves, and nothing more."""
    found = verify(whole)
    assert (found.origin, found.tenant_id) == ("example.com/audit/acme", "acme")
    assert (found.tree_size, found.events, found.erased, found.omitted) == (21, 21, 0, 0)
    assert (found.first_leaf, found.last_leaf, found.omitted_within) == (0, 20, 0)
    assert found.root_hash == merkle.root_hash(map(merkle.leaf_hash, LEAVES))
    assert [s.key_id for s in found.signatures] == [KEY.for_tenant("acme").verifier.key_id]
    assert (found.consistent_with, found.unknown_key_ids) == ((), ())
    times = [json.loads(leaf)["occurred_at"] for leaf in LEAVES]
    assert found.first_occurred_at is not None
    assert found.first_occurred_at.isoformat() == times[0].replace("Z", "+00:00")
    assert found.last_occurred_at is not None
    assert found.last_occurred_at.isoformat() == times[-1].replace("Z", "+00:00")


def test_a_part_of_a_log_holds(part: bytes) -> None:
    """What is erased or omitted is counted, and the older checkpoint is found consistent."""
    found = verify(part)
    assert (found.events, found.erased, found.omitted, found.omitted_within) == (8, 1, 12, 3)
    assert (found.first_leaf, found.last_leaf, found.tree_size) == (6, 17, 21)
    assert (found.consistent_with, found.filter) == ((9,), {})


def test_what_was_asked_for_is_repeated_and_not_proved(tmp_path: Path) -> None:
    """`filter` is the exporter's word: it is in the report, and another is as good as this one."""
    file = write(tmp_path / "evidence", LEAVES, filter={"action": "role_*", "limit": 5})
    assert verify(file).filter == {"action": "role_*", "limit": 5}
    assert verify(with_header(file, filter={"action": "login"})).filter == {"action": "login"}


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_logs_of_any_size_hold(count: int, tmp_path: Path) -> None:
    """An empty log has its evidence too."""
    found = verify(write(tmp_path / "evidence", bodies(count)))
    assert (found.tree_size, found.events) == (count, count)


@given(st.data(), st.integers(1, 40))
def test_any_selection_holds(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    """Whatever is shown, erased and omitted, the lines lead to the root, and are counted."""
    leaves = bodies(size)
    shown = sorted(data.draw(st.sets(st.integers(0, size - 1))))
    erased = data.draw(st.sets(st.sampled_from(shown))) if shown else set()
    old_size = data.draw(st.none() | st.integers(0, size))
    path = tmp_path_factory.mktemp("selection") / "evidence"
    found = verify(write(path, leaves, shown, erased=erased, old_size=old_size))
    assert (found.events, found.erased) == (len(shown) - len(erased), len(erased))
    assert found.omitted == size - len(shown)
    assert found.consistent_with == (() if old_size is None else (old_size,))


def test_the_tenant_s_own_key_is_enough(whole: bytes) -> None:
    """An auditor of one tenant need not know the key by the log's name."""
    assert verify(whole, KEY.for_tenant("acme").verifier).events == 21


def test_a_witness_is_named_with_its_time(tmp_path: Path) -> None:
    """A cosignature of a known witness is in the report; one of an unknown one shows nothing."""
    file = write(tmp_path / "evidence", LEAVES, checkpoint=_cosigned(note_of(LEAVES)))
    known = verify(file, KEY.verifier, _WITNESS.verifier)
    assert [s.seconds for s in known.signatures] == [None, 1_700_000_000]
    unknown = verify(file)
    witness_id = f"example.org/witness+{_WITNESS.verifier.key_id.hex()}"
    assert (len(unknown.signatures), unknown.unknown_key_ids) == (1, (witness_id,))


def _cosigned(note: str) -> str:
    return add_signatures(
        note, [cosign(note.rpartition("\n\n")[0] + "\n", _WITNESS, 1_700_000_000)]
    )


def test_a_witness_whose_key_is_given_must_have_cosigned(whole: bytes, tmp_path: Path) -> None:
    """A cosignature can be stripped off with its key id: then the file holds without it alone."""
    cosigned = write(tmp_path / "evidence", LEAVES, checkpoint=_cosigned(note_of(LEAVES)))
    stripped = with_header(
        cosigned,
        checkpoint=note_of(LEAVES),
        key_ids=json.loads(cosigned.partition(b"\n")[0])["key_ids"][:1],
    )
    assert stripped == whole
    assert verify(cosigned, KEY.verifier, _WITNESS.verifier).events == 21
    assert verify(stripped, KEY.verifier).events == 21
    key_id = _WITNESS.verifier.key_id.hex()
    with pytest.raises(VerificationError) as caught:
        verify(stripped, KEY.verifier, _WITNESS.verifier)
    assert f"is not cosigned by the witness example.org/witness+{key_id}" in str(caught.value)


def test_every_witness_whose_key_is_given_must_have_cosigned(tmp_path: Path) -> None:
    """One of two is not both."""
    cosigned = write(tmp_path / "evidence", LEAVES, checkpoint=_cosigned(note_of(LEAVES)))
    other = SigningKey.from_seed("example.net/witness", b"4" * 32, kind=KeyKind.WITNESS)
    with pytest.raises(VerificationError, match=r"by the witness example\.net/witness"):
        verify(cosigned, KEY.verifier, _WITNESS.verifier, other.verifier)


def test_an_older_checkpoint_need_not_be_cosigned(tmp_path: Path) -> None:
    """The witness is asked about the file's checkpoint: what it proves is of that one."""
    note = _cosigned(note_of(LEAVES))
    file = write(tmp_path / "evidence", LEAVES, checkpoint=note, old_size=9)
    found = verify(file, KEY.verifier, _WITNESS.verifier, old_checkpoint=note_of(LEAVES, 4))
    assert found.consistent_with == (4, 9)


def test_a_tenant_s_key_vouches_for_no_second_log_of_the_tenant(tmp_path: Path) -> None:
    """The same seed signs `audit/acme/acme`, which is no log that the holder was given a key of."""
    own = KEY.for_tenant("acme")
    file = write(tmp_path / "evidence", LEAVES, checkpoint=note_of(LEAVES, key=own))
    for key in (own, KEY):
        with pytest.raises(VerificationError, match=r"audit/acme/acme.*none of the keys given"):
            verify(file, key.verifier)


def test_the_tenant_asked_for_is_demanded(whole: bytes) -> None:
    """Evidence of another tenant is not what was asked for, though its key is known."""
    known = [KEY.verifier]
    assert verify_evidence(io.BytesIO(whole), known, tenant_id="acme").events == 21
    with pytest.raises(VerificationError, match="is of the tenant acme, not beta"):
        verify_evidence(io.BytesIO(whole), known, tenant_id="beta")


@pytest.mark.parametrize("size", [0, 5, 6, 7, 10, 16, 18, 20, 21])
def test_an_older_checkpoint_of_one_s_own_is_compared(size: int, whole: bytes, part: bytes) -> None:
    """Where the tree can be followed to that size, the file needs no proof for it."""
    given = note_of(LEAVES, size)
    assert size in verify(whole, old_checkpoint=given).consistent_with
    if size == 5:  # within the leaves that are omitted
        assert "can't show" in refused(part, old_checkpoint=given)
    else:
        assert {9, size} == set(verify(part, old_checkpoint=given).consistent_with)


def test_progress_counts_bytes_and_events(whole: bytes) -> None:
    """Whoever waits is told how far it is, up to the end."""
    told: list[tuple[int, int]] = []
    verify_evidence(
        io.BytesIO(whole), [KEY.verifier], progress=lambda *numbers: told.append(numbers)
    )
    assert told[-1] == (len(whole), 21)


# --- on its own

# What cryptography is built on may be imported too.
_ALONE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        ours = {"muniment", "msgspec", "cryptography", "_cffi_backend"}
        if name.partition(".")[0] not in sys.stdlib_module_names | ours:
            raise ImportError(f"{name} is imported by what must do without it")

sys.meta_path.insert(0, Block())
from muniment.evidence import verify_evidence
from muniment.keys import VerifyingKey
with open(sys.argv[1], "rb") as file:
    print(verify_evidence(file, [VerifyingKey.parse(sys.argv[2])]).events)
"""


def test_evidence_is_verified_with_every_other_import_blocked(part: bytes, tmp_path: Path) -> None:
    """Whoever has Python, msgspec and cryptography can verify a file; no database is needed."""
    file = tmp_path / "evidence"
    file.write_bytes(part)
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(file), KEY.verifier.text()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("8\n", "")


def test_a_checkpoint_of_another_form_of_root_is_refused(whole: bytes) -> None:
    """The root must be the tree's: another, signed by the true key, is not led to."""
    signer = KEY.for_tenant("acme")
    wrong = Checkpoint(origin=signer.name, tree_size=21, root_hash=bytes(32))
    file = with_header(whole, checkpoint=sign_checkpoint(wrong, [signer]))
    assert "do not lead to the root" in refused(file)
