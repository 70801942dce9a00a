from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment import merkle
from muniment.checkpoint import Checkpoint, add_signatures, cosign, sign_checkpoint
from muniment.errors import InvalidKey, VerificationError
from muniment.event import Outcome
from muniment.evidence import verify_evidence
from muniment.evidence.lines import MAX_LINE_BYTES
from muniment.keys import KeyKind, SigningKey
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

_LEAVES = bodies(21)
_WITNESS = SigningKey.from_seed("example.org/witness", b"3" * 32, kind=KeyKind.WITNESS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of all that is in the log."""
    return write(tmp_path_factory.mktemp("whole") / "evidence", _LEAVES)


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of leaves 6 to 17 without 10 to 12, one of them erased, with an older checkpoint."""
    chosen = [6, 7, 8, 9, 13, 14, 15, 16, 17]
    path = tmp_path_factory.mktemp("part") / "evidence"
    return write(path, _LEAVES, chosen, erased=[8], old_size=9)


def _refused(file: bytes, **options: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        verify(file, **options)
    return str(caught.value)


def _edited(file: bytes, edit: Callable[[list[bytes]], Any]) -> bytes:
    """The file with its lines edited, the header being the first."""
    lines = file.splitlines(keepends=True)
    edit(lines)
    return b"".join(lines)


def _with_header(file: bytes, **fields: Any) -> bytes:
    header, _, rest = file.partition(b"\n")
    changed = {**json.loads(header), **fields}
    kept = {name: value for name, value in changed.items() if value is not ...}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n" + rest


# --- what holds


def test_a_whole_log_holds(whole: bytes) -> None:
    """The report says what the file proves, and nothing more."""
    found = verify(whole)
    assert (found.origin, found.tenant_id) == ("example.com/audit/acme", "acme")
    assert (found.tree_size, found.events, found.erased, found.omitted) == (21, 21, 0, 0)
    assert (found.first_leaf, found.last_leaf, found.omitted_within) == (0, 20, 0)
    assert found.root_hash == merkle.root_hash(map(merkle.leaf_hash, _LEAVES))
    assert [s.key_id for s in found.signatures] == [KEY.for_tenant("acme").verifier.key_id]
    assert (found.consistent_with, found.unknown_key_ids) == ((), ())
    times = [json.loads(leaf)["occurred_at"] for leaf in _LEAVES]
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
    file = write(tmp_path / "evidence", _LEAVES, filter={"action": "role_*", "limit": 5})
    assert verify(file).filter == {"action": "role_*", "limit": 5}
    assert verify(_with_header(file, filter={"action": "login"})).filter == {"action": "login"}


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
    file = write(tmp_path / "evidence", _LEAVES, checkpoint=_cosigned(note_of(_LEAVES)))
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
    cosigned = write(tmp_path / "evidence", _LEAVES, checkpoint=_cosigned(note_of(_LEAVES)))
    stripped = _with_header(
        cosigned,
        checkpoint=note_of(_LEAVES),
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
    cosigned = write(tmp_path / "evidence", _LEAVES, checkpoint=_cosigned(note_of(_LEAVES)))
    other = SigningKey.from_seed("example.net/witness", b"4" * 32, kind=KeyKind.WITNESS)
    with pytest.raises(VerificationError, match=r"by the witness example\.net/witness"):
        verify(cosigned, KEY.verifier, _WITNESS.verifier, other.verifier)


def test_an_older_checkpoint_need_not_be_cosigned(tmp_path: Path) -> None:
    """The witness is asked about the file's checkpoint: what it proves is of that one."""
    note = _cosigned(note_of(_LEAVES))
    file = write(tmp_path / "evidence", _LEAVES, checkpoint=note, old_size=9)
    found = verify(file, KEY.verifier, _WITNESS.verifier, old_checkpoint=note_of(_LEAVES, 4))
    assert found.consistent_with == (4, 9)


def test_a_tenant_s_key_vouches_for_no_second_log_of_the_tenant(tmp_path: Path) -> None:
    """The same seed signs `audit/acme/acme`, which is no log that the holder was given a key of."""
    own = KEY.for_tenant("acme")
    file = write(tmp_path / "evidence", _LEAVES, checkpoint=note_of(_LEAVES, key=own))
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
    given = note_of(_LEAVES, size)
    assert size in verify(whole, old_checkpoint=given).consistent_with
    if size == 5:  # within the leaves that are omitted
        assert "can't show" in _refused(part, old_checkpoint=given)
    else:
        assert {9, size} == set(verify(part, old_checkpoint=given).consistent_with)


def test_progress_counts_bytes_and_events(whole: bytes) -> None:
    """Whoever waits is told how far it is, up to the end."""
    told: list[tuple[int, int]] = []
    verify_evidence(
        io.BytesIO(whole), [KEY.verifier], progress=lambda *numbers: told.append(numbers)
    )
    assert told[-1] == (len(whole), 21)


# --- what was done to the events


def test_an_edited_body_is_found(whole: bytes) -> None:
    """An event that is sound in itself, but not what was signed, leads to another root."""
    file = whole.replace(b'"id":"u3"', b'"id":"u4"', 1)
    assert "edited, removed, added or moved" in _refused(file)


def test_a_removed_line_is_found(whole: bytes) -> None:
    """One event fewer is not the tree that was signed."""
    assert "20 of 21 leaves" in _refused(_edited(whole, lambda lines: lines.pop(7)))


def test_the_newest_events_removed_are_found(whole: bytes) -> None:
    """A file that was cut off where a line ends is too short for its checkpoint."""
    assert "11 of 21 leaves" in _refused(
        _edited(whole, lambda lines: lines.__delitem__(slice(12, None)))
    )


def test_swapped_lines_are_found(whole: bytes) -> None:
    """Order counts: the same events in another order are another tree."""

    def swap(lines: list[bytes]) -> None:
        lines[4], lines[5] = lines[5], lines[4]

    assert "moved" in _refused(_edited(whole, swap))


def test_a_forged_line_is_found(whole: bytes) -> None:
    """A line too many is named, where the tree is full."""
    file = _edited(whole, lambda lines: lines.insert(5, body(1000) + b"\n"))
    assert _refused(file) == "line 23 (leaf 21): goes beyond the checkpoint's tree of 21 leaves"


def test_a_forged_line_in_place_of_another_is_found(whole: bytes) -> None:
    """As many lines as there were, but not the same ones."""
    assert "root" in _refused(_edited(whole, lambda lines: lines.__setitem__(5, body(99) + b"\n")))


def test_another_tenant_s_event_is_found(tmp_path: Path) -> None:
    """Even if the log's owner signed it in: its tenant is another."""
    leaves = [*_LEAVES[:4], body(4, tenant_id="beta"), *_LEAVES[5:]]
    file = write(tmp_path / "evidence", leaves)
    assert _refused(file) == "line 6 (leaf 4): is an event of another tenant, beta"


def test_an_event_that_comes_twice_is_found(tmp_path: Path) -> None:
    """A log that was signed with one event_id at two places is not sound."""
    for again in (_LEAVES[2], body(2, outcome=Outcome.DENIED)):
        file = write(tmp_path / "evidence", [*_LEAVES[:9], again, *_LEAVES[9:]])
        assert re.match(r"line 11 \(leaf 9\): has the event_id .* twice", _refused(file))


def test_a_body_that_is_not_canonical_is_found(tmp_path: Path) -> None:
    """Signed or not, another spelling of an event is not its body."""
    odd = _LEAVES[2].replace(b'{"action":"role_assign",', b'{"action":"role_assign", ')
    file = write(tmp_path / "evidence", [*_LEAVES[:2], odd])
    assert "line 4 (leaf 2): is an event, but not in its canonical form" in _refused(file)


def test_the_first_of_several_faults_is_named(part: bytes) -> None:
    """What is wrong first is told first, whatever kind of line it is."""

    def spoil(lines: list[bytes]) -> None:
        lines[4] = b'{"leaf_hash":"AAAA"}\n'  # the erased one
        lines[7] = b'{"action":"x"}\n'

    assert "line 5 (leaf 8): has a hash of 3 bytes" in _refused(_edited(part, spoil))


# --- what was done to the checkpoint


def test_the_checkpoint_of_another_log_is_found(whole: bytes) -> None:
    """A checkpoint of another tenant does not do, whoever signed it."""
    note = note_of(_LEAVES, tenant_id="beta")
    file = _with_header(whole, checkpoint=note)
    assert "key_ids are not those" in _refused(file)
    other = f"example.com/audit/beta+{KEY.for_tenant('beta').verifier.key_id.hex()}"
    file = _with_header(whole, checkpoint=note, key_ids=[other])
    assert "none of the keys given" in _refused(file)
    with pytest.raises(VerificationError, match="none of the keys given"):
        verify(file, KEY.verifier, KEY.for_tenant("beta").verifier)
    with pytest.raises(VerificationError, match="audit/acme, not of"):
        verify(_with_header(whole, origin="example.com/acme"))
    file = _with_header(file, origin="example.com/audit/beta")
    assert "is not of the tenant acme" in _refused(file)


def test_an_older_checkpoint_in_place_of_the_newest_is_found(whole: bytes) -> None:
    """With the checkpoint of 9 leaves, the tenth is one too many."""
    assert "beyond" in _refused(_with_header(whole, checkpoint=note_of(_LEAVES, 9)))
    assert "leaf 9" in _refused(_with_header(whole, checkpoint=note_of(_LEAVES, 9), leaves=9))


def test_another_key_is_found(whole: bytes) -> None:
    """A file that somebody else signed, or nobody, does not hold; and it says who did."""
    message = _refused(write_signed_by(whole, OTHER_KEY))
    assert "none of the keys given" in message
    assert OTHER_KEY.for_tenant("acme").verifier.key_id.hex() in message
    unsigned = note_of(_LEAVES).rpartition("\u2014")[0]
    assert "line 1" in _refused(_with_header(whole, checkpoint=unsigned, key_ids=[]))


def write_signed_by(whole: bytes, key: SigningKey) -> bytes:
    """The file as if another key had signed it."""
    key_id = key.for_tenant("acme").verifier.key_id.hex()
    return _with_header(
        whole, checkpoint=note_of(_LEAVES, key=key), key_ids=[f"example.com/audit/acme+{key_id}"]
    )


def test_a_signature_of_another_text_is_found(whole: bytes) -> None:
    """The signature must be the known key's, on this very checkpoint."""
    text = note_of(bodies(20)).partition("\n\n")[0]
    signed = note_of(_LEAVES).partition("\n\n")[2]
    assert "does not hold" in _refused(_with_header(whole, checkpoint=f"{text}\n\n{signed}"))


def test_a_signature_under_the_log_s_own_name_is_not_the_tenant_s(whole: bytes) -> None:
    """The seed is the same for all tenants: only the name tells their logs apart."""
    text = note_of(_LEAVES).partition("\n\n")[0] + "\n"
    signature = base64.b64encode(KEY.verifier.key_id + KEY.sign(text.encode())).decode()
    note = f"{text}\n\u2014 {KEY.name} {signature}\n"
    key_ids = [f"{KEY.name}+{KEY.verifier.key_id.hex()}"]
    assert "signed by" in _refused(_with_header(whole, checkpoint=note, key_ids=key_ids))


def test_keys_that_cannot_be_told_apart_are_the_caller_s_fault(whole: bytes) -> None:
    """Only what is in the file is a `VerificationError`."""
    with pytest.raises(VerificationError, match="none of the keys"):
        verify_evidence(io.BytesIO(whole), [])
    assert issubclass(InvalidKey, ValueError)


# --- an older checkpoint


def test_a_fork_is_found(whole: bytes) -> None:
    """A tree rebuilt over altered events, signed with the true key, is not what was seen before."""
    forked = [*_LEAVES[:3], body(3, outcome=Outcome.DENIED), *_LEAVES[4:]]
    message = _refused(whole, old_checkpoint=note_of(forked, 9))
    assert message.startswith("line 2 (leaf 9): the first 9 leaves are not those of the older")
    assert "forked" in _refused(whole, old_checkpoint=note_of(forked))


def test_a_rollback_is_found(tmp_path: Path) -> None:
    """A file with fewer leaves than were seen before is older, or the log lost some."""
    file = write(tmp_path / "evidence", _LEAVES[:12])
    assert "rolled back" in _refused(file, old_checkpoint=note_of(_LEAVES))


def test_an_older_checkpoint_must_be_signed_and_of_this_log(whole: bytes) -> None:
    """An older checkpoint that nobody vouches for proves nothing."""
    for note in (
        note_of(_LEAVES, 9, key=OTHER_KEY),
        note_of(_LEAVES, 9, tenant_id="beta"),
        "",
        b"\xff",
        "nonsense",
    ):
        message = _refused(whole, old_checkpoint=note)
        assert message.startswith("the older checkpoint given: ")


def test_the_file_s_own_older_checkpoint_must_be_proved(part: bytes) -> None:
    """Its proof leads from the one root to the other, or the file doesn't hold."""
    proof = [base64.b64encode(each).decode() for each in consistency(_LEAVES, 9)]
    for wrong in (proof[:-1], proof[::-1], [*proof, proof[0]], ["AAAA"], [], ["!"], "x"):
        assert _refused(_with_header(part, consistency=wrong)).startswith("line 1: ")
    wrong_size = _with_header(part, old_checkpoint=note_of(_LEAVES, 10))
    assert _refused(wrong_size).startswith("line 1: ")
    assert "no old_checkpoint" in _refused(_with_header(part, old_checkpoint=...))


# --- what is no such file


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda file: file[:0], "the file is empty"),
        (lambda file: b"\n" + file, "the file is empty"),
        (gzip.compress, "line 1: "),
        (lambda file: b"\xff" + file, "line 1: is not the header"),
        (lambda file: file[:-1], "ends within a line"),
        (lambda file: file[:-100], "ends within a line"),
        (lambda file: file + b"\n", "line 23 (leaf 21): is none of"),
        (lambda file: file + file.splitlines(keepends=True)[-1], "line 23 (leaf 21): "),
        (lambda file: file + b'{"hashes":[],"omitted":0}\n', "omits 0 leaves"),
        (lambda file: file.replace(b"\n", b"\r\n"), "line 1: "),
        (lambda file: file.partition(b"\n")[2], "line 1: is not the header"),
        (lambda file: file.partition(b"\n")[0] + b"\n" + file, "line 2 (leaf 0): "),
        (lambda file: file.replace(b'"muniment/1"', b'"muniment/2"'), "of the format"),
        (
            lambda file: file.replace(b"192.0.2.1", b"192.0.2.\xff", 1),
            "line 2 (leaf 0): is no event",
        ),
        (lambda file: file.replace(b"\n", b"\n\n", 2), "line 2 (leaf 0): is none of"),
        (lambda file: file.replace(b'{"checkpoint"', b'{ "checkpoint"', 1), "line 1: "),
        (lambda file: file.replace(b'{"checkpoint"', b'{"a":1,"checkpoint"', 1), "line 1: "),
        (lambda file: file.replace(b',"tenant_id":"acme"}', b"}", 1), "line 1: "),
        (
            lambda file: file.replace(b'"tenant_id":"acme"', b'"tenant_id":"a","tenant_id":"acme"'),
            "line 1: ",
        ),
        (
            lambda file: file.replace(b'{"action"', b'{"action":"x","action"', 1),
            "line 2 (leaf 0): is an event, but not in its canonical form",
        ),
    ],
)
def test_what_is_no_evidence_is_refused(
    whole: bytes, edit: Callable[[bytes], bytes], says: str
) -> None:
    """Each malformation is a `VerificationError` that says where and what."""
    assert says in _refused(edit(whole))


@pytest.mark.parametrize(
    "fields",
    [
        {name: ...}
        for name in (
            "checkpoint",
            "evidence",
            "first_leaf",
            "key_ids",
            "leaves",
            "origin",
            "tenant_id",
        )
    ]
    + [
        {"tenant_id": ""},
        {"tenant_id": "a\x00b"},
        {"tenant_id": 5},
        {"tenant_id": "x" * 513},
        {"origin": "acme"},
        {"origin": "example.com/audit/acm%65"},
        {"checkpoint": ""},
        {"checkpoint": "\n\n"},
        {"checkpoint": None},
        {"first_leaf": 1},
        {"first_leaf": -1},
        {"first_leaf": 2**70},
        {"leaves": 20},
        {"leaves": 22},
        {"leaves": 10**30},
        {"leaves": 20.5},
        {"key_ids": []},
        {"key_ids": ["x"]},
        {"more": 1},
        {"filter": {}},
        {"filter": []},
        {"old_checkpoint": "x"},
        {"old_checkpoint": None},
        {"consistency": []},
    ],
    ids=str,
)
def test_a_header_that_is_not_one_is_refused(whole: bytes, fields: dict[str, Any]) -> None:
    """Each field is needed, has one form, and is compared with what the file holds."""
    _refused(_with_header(whole, **fields))


_HASH = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "line",
    [
        '{"hashes":[],"omitted":3}',
        f'{{"hashes":["{_HASH}"],"omitted":3}}',
        f'{{"hashes":["{_HASH}"],"omitted":1}}',
        f'{{"hashes":["{_HASH}","{_HASH}"],"omitted":3}}',
        f'{{"hashes":["{_HASH}"],"omitted":{10**30}}}',
        f'{{"hashes":["{_HASH}"],"omitted":{"9" * 5000}}}',
        f'{{"hashes":["{_HASH}"],"omitted":{2**53 - 1}}}',
        f'{{"hashes":["{_HASH}"],"omitted":-1}}',
        f'{{"hashes":["{_HASH}"],"omitted":0}}',
        f'{{"hashes":["{_HASH}"],"omitted":1.0}}',
        f'{{"hashes":["{_HASH}"],"omitted":true}}',
        f'{{"hashes":["{_HASH[:-2]}9="],"omitted":1}}',
        f'{{"hashes":"{_HASH}","omitted":1}}',
        f'{{"omitted":1,"hashes":["{_HASH}"]}}',
        f'{{"hashes":["{_HASH}"],"omitted":1,"x":1}}',
        f'{{"leaf_hash":"{_HASH}"}}',
        f'{{"leaf_hash":"{_HASH}","leaf_hash":"{_HASH}"}}',
        f'{{"leaf_hash":"{_HASH}","omitted":1}}',
        '{"leaf_hash":""}',
        '{"leaf_hash":null}',
        "{}",
        "[]",
        "null",
        "\x00",
        '{"action":"x"}',
    ],
)
def test_a_line_that_is_not_one_is_refused(part: bytes, line: str) -> None:
    """In place of the omitted leaves in the middle, no other line leads to the root."""
    _refused(_edited(part, lambda lines: lines.__setitem__(6, line.encode() + b"\n")))


def test_two_runs_of_omitted_leaves_are_one(part: bytes) -> None:
    """A file has one form: leaves that are omitted one after the other stand in one line."""
    hashes = [merkle.leaf_hash(leaf) for leaf in _LEAVES[10:13]]
    runs = [
        json.dumps(
            {"hashes": [base64.b64encode(each).decode()], "omitted": 1}, separators=(",", ":")
        )
        for each in hashes
    ]
    split = "\n".join(runs).encode() + b"\n"
    assert "second run" in _refused(_edited(part, lambda lines: lines.__setitem__(6, split)))


def test_no_body_passes_for_the_inside_of_a_tree(tmp_path: Path) -> None:
    """Omitted leaves can't be passed off as events, nor two events as one that was erased."""
    leaves = bodies(2)
    note = note_of(leaves)
    node = merkle.node_hash(*map(merkle.leaf_hash, leaves))
    file = write(tmp_path / "evidence", leaves, checkpoint=note)
    header = file.partition(b"\n")[0]
    erased = b'{"leaf_hash":"' + base64.b64encode(node) + b'"}\n'
    assert "1 of 2 leaves" in _refused(header + b"\n" + erased)


# --- hostile files


@given(st.data())
def test_no_byte_can_be_changed(part: bytes, data: st.DataObject) -> None:
    """Any byte of the file changed, it doesn't hold."""
    place = data.draw(st.integers(0, len(part) - 1))
    value = data.draw(st.integers(0, 255))
    if part[place] != value:
        _refused(part[:place] + bytes([value]) + part[place + 1 :])


@pytest.mark.parametrize("flip", [0x01, 0x20])
def test_no_byte_at_all_can_be_changed(tmp_path: Path, flip: int) -> None:
    """One after the other, with a bit flipped, or the case of a letter."""
    file = write(tmp_path / "evidence", _LEAVES[:8], [2, 4, 5], erased=[4], old_size=3)
    held = []
    for place in range(len(file)):
        changed = file[:place] + bytes([file[place] ^ flip]) + file[place + 1 :]
        with contextlib.suppress(VerificationError):
            held.append((place, verify(changed)))
    assert held == []


@given(st.data())
def test_no_piece_can_be_cut_out_doubled_or_put_in(part: bytes, data: st.DataObject) -> None:
    """Nor can pieces be removed, repeated or added: it is always a `VerificationError`."""
    start = data.draw(st.integers(0, len(part)))
    end = data.draw(st.integers(start, min(len(part), start + 700)))
    piece = data.draw(st.sampled_from([b"", part[start:end] * 2]) | st.binary(max_size=20))
    file = part[:start] + piece + part[end:]
    if file != part:
        _refused(file)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_bytes_raise_anything_else(file: bytes) -> None:
    """Whatever is in a file, it is no evidence, and that is said."""
    _refused(file)


class _Endless(io.RawIOBase):
    """A file whose one line never ends, up to 100 MB."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._left = 100_000_000

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece, self._start = self._start[:size], self._start[size:]
        if not piece:
            piece = b"x" * min(size, self._left)
            self._left -= len(piece)
        return piece


@pytest.mark.parametrize("has_header", [True, False])
def test_a_line_without_an_end_is_not_read_to_its_end(whole: bytes, *, has_header: bool) -> None:
    """A line longer than any body is refused as soon as that is known."""
    start = whole.partition(b"\n")[0] + b"\n" if has_header else b""
    tracemalloc.start()
    with pytest.raises(VerificationError, match=f"over {MAX_LINE_BYTES:,} bytes"):
        verify_evidence(_Endless(start), [KEY.verifier])  # type: ignore[arg-type] # reads alike
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
    tracemalloc.stop()


def test_a_body_of_the_greatest_size_holds(tmp_path: Path) -> None:
    """Lines that are longer than what is read at once are put together."""
    large = body(1, details={"text": "x" * 262_000})
    leaves = [body(0), large, body(2)]
    assert verify(write(tmp_path / "evidence", leaves)).events == 3


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
    file = _with_header(whole, checkpoint=sign_checkpoint(wrong, [signer]))
    assert "do not lead to the root" in _refused(file)
