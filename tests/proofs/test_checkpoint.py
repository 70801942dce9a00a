from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from cryptography.exceptions import InvalidSignature
from hypothesis import example, given
from hypothesis import strategies as st
from tlog_scales import signing, tlog

from muniment.checkpoint import (
    Checkpoint,
    add_signatures,
    checkpoint_text,
    cosign,
    cosignatures,
    open_checkpoint,
    open_note,
    parse_checkpoint,
    sign_checkpoint,
    sign_note,
)
from muniment.errors import InvalidKey, VerificationError
from muniment.keys import SigningKey, VerifyingKey
from tests.proofs.notes import (
    CHECKPOINT,
    KEY,
    KNOWN,
    NEXT_KEY,
    NOTE,
    ORIGIN,
    ROOT,
    ROOT64,
    STRANGER,
    TEXT,
    WITNESS,
    line_of,
    raw_line,
)

# --- known answers


def test_the_note_of_the_specification_opens() -> None:
    """The example of c2sp.org/signed-note is verified with the example's key."""
    key = VerifyingKey.parse(
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    )
    note = (
        "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfX"
        "ppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    opened = open_note(note, [key])
    assert opened.text == "This is an example message.\n"
    assert [(s.name, s.key_id) for s in opened.signatures] == [("example.com/foo", key.key_id)]


def test_a_checkpoint_is_the_text_that_the_specification_describes() -> None:
    """Origin, size and root hash, a line each; an empty line; one signature (tlog-checkpoint)."""
    signature = KEY.sign(TEXT.encode())
    assert checkpoint_text(CHECKPOINT) == TEXT
    assert f"{TEXT}\n" + raw_line(ORIGIN, KEY.verifier.key_id + signature) == NOTE


# --- tlog-scales, which isn't ours


def _scales_accepts(note: str, key: VerifyingKey) -> bool:
    try:
        tlog.Checkpoint.from_text(note).verify(signing.Vkey.from_string(key.text()))
    except (InvalidSignature, RuntimeError, ValueError):
        return False
    return True


def _we_accept(note: str, key: VerifyingKey) -> bool:
    try:
        open_checkpoint(note, [key])
    except VerificationError:
        return False
    return True


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.text(min_size=1))
def test_others_accept_what_we_sign(size: int, root_hash: bytes, tenant_id: str) -> None:
    """tlog-scales reads and verifies the checkpoint of any tenant, of any size."""
    key = SigningKey.from_seed("example.com/audit", b"1" * 32).for_tenant(tenant_id)
    checkpoint = Checkpoint(origin=key.name, tree_size=size, root_hash=root_hash)
    note = sign_checkpoint(checkpoint, [key])
    read = tlog.Checkpoint.from_text(note)
    assert (read.origin, read.size, read.root_hash) == (key.name, size, root_hash)
    assert _scales_accepts(note, key.verifier)


def test_we_accept_what_others_sign() -> None:
    """A note that tlog-scales made with the same seed is, byte for byte, the one that we make."""
    signer = signing.PlainEd25519Signer(ORIGIN, b"1" * 32)
    made = tlog.Checkpoint.make_signed(ORIGIN, 20_852_163, ROOT, [signer]).serialize()
    assert made == NOTE
    assert open_checkpoint(made, KNOWN) == CHECKPOINT


_OTHER_ROOT = base64.b64encode(bytes(32)).decode()
_BROKEN_SIGNATURE = bytes([*KEY.sign(TEXT.encode())[:-1], 0])
_ALTERED = {
    "another origin": NOTE.replace(f"{ORIGIN}\n", "example.com/audit/other\n"),
    "a smaller tree": NOTE.replace("\n20852163\n", "\n20852162\n"),
    "another root": NOTE.replace(ROOT64, _OTHER_ROOT),
    "another signer's name": NOTE.replace(f"\u2014 {ORIGIN}", "\u2014 example.com/audit/other"),
    "another key id": f"{TEXT}\n"
    + raw_line(ORIGIN, NEXT_KEY.verifier.key_id + KEY.sign(TEXT.encode())),
    "a changed signature": f"{TEXT}\n" + raw_line(ORIGIN, KEY.verifier.key_id + _BROKEN_SIGNATURE),
    "a short signature": f"{TEXT}\n"
    + raw_line(ORIGIN, KEY.verifier.key_id + KEY.sign(TEXT.encode())[:-1]),
    "the signature of another text": f"{TEXT}\n" + line_of(KEY, "another\n"),
    "another key under the name": f"{TEXT}\n" + line_of(NEXT_KEY),
    "no signature": f"{TEXT}\n",
}


@pytest.mark.parametrize("note", _ALTERED.values(), ids=_ALTERED)
def test_an_altered_note_is_rejected_by_others_and_by_us(note: str) -> None:
    """The case that must fail: tlog-scales and we accept the note, and neither its alteration."""
    assert _scales_accepts(NOTE, KEY.verifier)
    assert _we_accept(NOTE, KEY.verifier)
    assert not _scales_accepts(note, KEY.verifier)
    assert not _we_accept(note, KEY.verifier)


def test_others_accept_our_cosignature() -> None:
    """tlog-scales verifies a witness's line on a note, and finds the same time in it."""
    note = add_signatures(NOTE, [cosign(TEXT, WITNESS, 1_679_315_147)])
    read = tlog.Checkpoint.from_text(note)
    vkey = signing.Vkey.from_string(WITNESS.verifier.text())
    ((_, found),) = signing.VkeySet(vkey).verify(read.signatures, read)
    assert signing.Ed25519CosignatureVerifier.get_timestamp(found.payload) == 1_679_315_147
    assert _scales_accepts(note, KEY.verifier)
    assert not _scales_accepts(note.replace("20852163", "20852164"), WITNESS.verifier)


# --- checkpoints

_checkpoints = st.builds(
    Checkpoint,
    origin=st.text(min_size=1, max_size=30),
    tree_size=st.integers(-2, 2**63 + 1),
    root_hash=st.binary(min_size=31, max_size=33),
    extensions=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)


@given(_checkpoints)
@example(Checkpoint(origin="a\u2028b", tree_size=0, root_hash=ROOT, extensions=("\u2014 x",)))
@example(Checkpoint(origin="a\n5", tree_size=0, root_hash=ROOT))
def test_what_is_written_is_read_as_the_same_checkpoint(checkpoint: Checkpoint) -> None:
    """A checkpoint whose text would say something else isn't written at all."""
    with suppress(VerificationError):
        assert parse_checkpoint(checkpoint_text(checkpoint)) == checkpoint


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_every_size_is_written(size: int) -> None:
    """From the empty tree to the largest one."""
    checkpoint = Checkpoint(origin=ORIGIN, tree_size=size, root_hash=ROOT)
    assert open_checkpoint(sign_checkpoint(checkpoint, [KEY]), KNOWN) == checkpoint


def test_extension_lines_are_kept() -> None:
    """Others may add lines to a checkpoint; they are signed with the rest."""
    checkpoint = Checkpoint(origin=ORIGIN, tree_size=1, root_hash=ROOT, extensions=("a b", "c"))
    note = sign_checkpoint(checkpoint, [KEY])
    assert open_checkpoint(note, KNOWN) == checkpoint
    assert not _we_accept(note.replace("a b\n", ""), KEY.verifier)


_NO_CHECKPOINTS = {
    "one line": f"{ORIGIN}\n",
    "two lines": f"{ORIGIN}\n5\n",
    "an empty origin": f"\n5\n{ROOT64}\n",
    "an empty size": f"{ORIGIN}\n\n{ROOT64}\n",
    "a leading zero": f"{ORIGIN}\n05\n{ROOT64}\n",
    "two zeros": f"{ORIGIN}\n00\n{ROOT64}\n",
    "a sign": f"{ORIGIN}\n+5\n{ROOT64}\n",
    "a negative size": f"{ORIGIN}\n-5\n{ROOT64}\n",
    "a hexadecimal size": f"{ORIGIN}\n0x5\n{ROOT64}\n",
    "a size with an underscore": f"{ORIGIN}\n1_0\n{ROOT64}\n",
    "a size with a space": f"{ORIGIN}\n5 \n{ROOT64}\n",
    "digits of another script": f"{ORIGIN}\n\u0665\n{ROOT64}\n",
    "a size past the largest": f"{ORIGIN}\n{2**63}\n{ROOT64}\n",
    "five thousand digits": f"{ORIGIN}\n{'9' * 5000}\n{ROOT64}\n",
    "an empty root": f"{ORIGIN}\n5\n\n",
    "a root of 31 bytes": f"{ORIGIN}\n5\n{base64.b64encode(ROOT[1:]).decode()}\n",
    "a root of 33 bytes": f"{ORIGIN}\n5\n{base64.b64encode(ROOT + b'x').decode()}\n",
    "a root in hexadecimal": f"{ORIGIN}\n5\n{ROOT.hex()}\n",
    "a root without padding": f"{ORIGIN}\n5\n{ROOT64.rstrip('=')}\n",
    "a root with other rests": f"{ORIGIN}\n5\n{'A' * 42}B=\n",
    "an empty extension": f"{ORIGIN}\n5\n{ROOT64}\n\n",
    "an empty line between": f"{ORIGIN}\n5\n{ROOT64}\n\nmore\n",
}


@pytest.mark.parametrize("text", _NO_CHECKPOINTS.values(), ids=_NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_rejected_though_it_is_signed(text: str) -> None:
    """Each way in which a checkpoint can be malformed is a `VerificationError`."""
    with pytest.raises(VerificationError):
        open_checkpoint(sign_note(text, [KEY]), KNOWN)
    with pytest.raises(VerificationError):
        cosign(text, WITNESS, 7)
    with pytest.raises(VerificationError):
        cosignatures(sign_note(text, [KEY]), [])


@pytest.mark.parametrize("text", ["", TEXT[:-1], NOTE])
def test_a_checkpoint_s_text_ends_with_its_last_line(text: str) -> None:
    """Neither without its newline nor with the signatures is it the text of a checkpoint."""
    with pytest.raises(VerificationError):
        parse_checkpoint(text)


def test_the_origin_asked_for_is_the_one_that_is_there() -> None:
    """A checkpoint of another log is not what was asked for, though its key is known."""
    assert open_checkpoint(NOTE, KNOWN, origin=ORIGIN) == CHECKPOINT
    with pytest.raises(VerificationError, match=r"not of example\.com/audit/other"):
        open_checkpoint(NOTE, KNOWN, origin="example.com/audit/other")


def test_a_tenant_s_checkpoint_can_t_be_passed_off_as_another_s() -> None:
    """Tenants' keys share a seed: the signature holds under the other name, the origin tells."""
    base = SigningKey.from_seed("example.com/audit", b"1" * 32)
    other = base.for_tenant("other").verifier
    passed_off = f"{TEXT}\n" + raw_line(other.name, other.key_id + KEY.sign(TEXT.encode()))
    assert open_note(passed_off, [other]).text == TEXT
    with pytest.raises(VerificationError, match=f"is of {ORIGIN}"):
        open_checkpoint(passed_off, [other])
    with pytest.raises(VerificationError, match=f"is of {ORIGIN}"):
        open_checkpoint(passed_off, [other], origin=other.name)


def test_a_log_whose_key_has_another_name_is_asked_for_by_its_origin() -> None:
    """Other people's logs need not be named as their keys are."""
    note = sign_note(TEXT, [STRANGER])
    with pytest.raises(VerificationError, match=r"signed by example\.net/stranger"):
        open_checkpoint(note, [STRANGER.verifier])
    assert open_checkpoint(note, [STRANGER.verifier], origin=ORIGIN) == CHECKPOINT


def test_a_witness_alone_makes_no_checkpoint() -> None:
    """A cosignature says that a log signed; the log's own signature must be there too."""
    note = f"{TEXT}\n" + cosign(TEXT, WITNESS, 7)
    with pytest.raises(VerificationError, match="no signature of a log"):
        open_checkpoint(note, [KEY.verifier, WITNESS.verifier], origin=ORIGIN)


def test_a_key_signs_checkpoints_of_its_own_log_only() -> None:
    """A checkpoint under a tenant's origin never gets another tenant's name by mistake."""
    with pytest.raises(InvalidKey, match="is not the key of"):
        sign_checkpoint(CHECKPOINT, [KEY, STRANGER])
