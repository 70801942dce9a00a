from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from hypothesis import example, given
from hypothesis import strategies as st
from tlog_scales import signing, tlog

from muniment.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
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
from muniment.keys import KeyKind, SigningKey, VerifyingKey

_ORIGIN = "example.com/audit/acme"
_KEY = SigningKey.from_seed(_ORIGIN, b"1" * 32)
_NEXT_KEY = SigningKey.from_seed(_ORIGIN, b"2" * 32)
_STRANGER = SigningKey.from_seed("example.net/stranger", b"3" * 32)
_WITNESS = SigningKey.from_seed("example.org/witness", b"4" * 32, kind=KeyKind.WITNESS)
_OTHER_WITNESS = SigningKey.from_seed("example.net/witness", b"5" * 32, kind=KeyKind.WITNESS)
_KNOWN = (_KEY.verifier,)

_ROOT = hashlib.sha256(b"root").digest()
_ROOT64 = base64.b64encode(_ROOT).decode()
_CHECKPOINT = Checkpoint(origin=_ORIGIN, tree_size=20_852_163, root_hash=_ROOT)
_TEXT = f"{_ORIGIN}\n20852163\n{_ROOT64}\n"
_NOTE = sign_checkpoint(_CHECKPOINT, (_KEY,))
_LINE = _NOTE.removeprefix(f"{_TEXT}\n")


def _line(key: SigningKey, text: str = _TEXT) -> str:
    return sign_note(text, [key]).removeprefix(f"{text}\n")


def _raw_line(name: str, data: bytes) -> str:
    return f"\u2014 {name} {base64.b64encode(data).decode()}\n"


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
    signature = _KEY.sign(_TEXT.encode())
    assert checkpoint_text(_CHECKPOINT) == _TEXT
    assert f"{_TEXT}\n" + _raw_line(_ORIGIN, _KEY.verifier.key_id + signature) == _NOTE


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
    signer = signing.PlainEd25519Signer(_ORIGIN, b"1" * 32)
    made = tlog.Checkpoint.make_signed(_ORIGIN, 20_852_163, _ROOT, [signer]).serialize()
    assert made == _NOTE
    assert open_checkpoint(made, _KNOWN) == _CHECKPOINT


_OTHER_ROOT = base64.b64encode(bytes(32)).decode()
_BROKEN_SIGNATURE = bytes([*_KEY.sign(_TEXT.encode())[:-1], 0])
_ALTERED = {
    "another origin": _NOTE.replace(f"{_ORIGIN}\n", "example.com/audit/other\n"),
    "a smaller tree": _NOTE.replace("\n20852163\n", "\n20852162\n"),
    "another root": _NOTE.replace(_ROOT64, _OTHER_ROOT),
    "another signer's name": _NOTE.replace(f"\u2014 {_ORIGIN}", "\u2014 example.com/audit/other"),
    "another key id": f"{_TEXT}\n"
    + _raw_line(_ORIGIN, _NEXT_KEY.verifier.key_id + _KEY.sign(_TEXT.encode())),
    "a changed signature": f"{_TEXT}\n"
    + _raw_line(_ORIGIN, _KEY.verifier.key_id + _BROKEN_SIGNATURE),
    "a short signature": f"{_TEXT}\n"
    + _raw_line(_ORIGIN, _KEY.verifier.key_id + _KEY.sign(_TEXT.encode())[:-1]),
    "the signature of another text": f"{_TEXT}\n" + _line(_KEY, "another\n"),
    "another key under the name": f"{_TEXT}\n" + _line(_NEXT_KEY),
    "no signature": f"{_TEXT}\n",
}


@pytest.mark.parametrize("note", _ALTERED.values(), ids=_ALTERED)
def test_an_altered_note_is_rejected_by_others_and_by_us(note: str) -> None:
    """The case that must fail: tlog-scales and we accept the note, and neither its alteration."""
    assert _scales_accepts(_NOTE, _KEY.verifier)
    assert _we_accept(_NOTE, _KEY.verifier)
    assert not _scales_accepts(note, _KEY.verifier)
    assert not _we_accept(note, _KEY.verifier)


def test_others_accept_our_cosignature() -> None:
    """tlog-scales verifies a witness's line on a note, and finds the same time in it."""
    note = add_signatures(_NOTE, [cosign(_TEXT, _WITNESS, 1_679_315_147)])
    read = tlog.Checkpoint.from_text(note)
    vkey = signing.Vkey.from_string(_WITNESS.verifier.text())
    ((_, found),) = signing.VkeySet(vkey).verify(read.signatures, read)
    assert signing.Ed25519CosignatureVerifier.get_timestamp(found.payload) == 1_679_315_147
    assert _scales_accepts(note, _KEY.verifier)
    assert not _scales_accepts(note.replace("20852163", "20852164"), _WITNESS.verifier)


# --- notes


@given(st.text(max_size=60), st.booleans())
def test_any_text_that_can_be_signed_is_opened_as_it_was(text: str, closed: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Texts with empty lines, separators and dashes come out of the note unchanged."""
    text = f"{text}\n" if closed else text
    fits = text.endswith("\n") and not any(c < " " and c != "\n" for c in text)
    if fits:
        assert open_note(sign_note(text, [_KEY]), _KNOWN).text == text
    else:
        with pytest.raises(VerificationError):
            sign_note(text, [_KEY])


def test_a_note_may_be_bytes() -> None:
    """What comes from a file or the network needs no decoding first."""
    assert open_note(_NOTE.encode(), _KNOWN) == open_note(_NOTE, _KNOWN)


def test_all_keys_sign() -> None:
    """While one key follows another, whoever knows either of them can open the note."""
    note = sign_checkpoint(_CHECKPOINT, (_KEY, _NEXT_KEY, _KEY))
    for key in (_KEY, _NEXT_KEY):
        (signature,) = open_note(note, [key.verifier]).signatures
        assert signature.key_id == key.verifier.key_id
    assert len(open_note(note, [_KEY.verifier, _NEXT_KEY.verifier]).signatures) == 2


@pytest.mark.parametrize(
    "line",
    [
        _line(_STRANGER),
        _raw_line("example.net/stranger", b"id__" + b"anything"),
        _raw_line(_ORIGIN, b"id__" + b"under a known name"),
        _raw_line("example.net/stranger", _KEY.verifier.key_id + b"under a known id"),
        _raw_line("example.net/\u200b\x7f", b"id__" + b"x"),
    ],
)
def test_signatures_of_unknown_keys_are_ignored(line: str) -> None:
    """Name and id together tell a key; what is signed by others says nothing, good or bad."""
    for note in (_NOTE + line, f"{_TEXT}\n{line}{_LINE}"):
        assert [s.name for s in open_note(note, _KNOWN).signatures] == [_ORIGIN]


def test_a_note_of_strangers_is_rejected() -> None:
    """Without a signature of a known key the text counts for nothing."""
    note = sign_note(_TEXT, [_STRANGER])
    with pytest.raises(VerificationError, match="no signature of a known key"):
        open_note(note, _KNOWN)
    with pytest.raises(VerificationError, match="no signature of a known key"):
        open_note(_NOTE, [])


def test_one_bad_signature_of_a_known_key_spoils_the_note() -> None:
    """Though another known key's holds (signed-note, "Signatures")."""
    note = _NOTE + _line(_NEXT_KEY, "another\n")
    with pytest.raises(VerificationError, match="does not hold"):
        open_note(note, [_KEY.verifier, _NEXT_KEY.verifier])


def test_a_signature_twice_counts_once() -> None:
    """A quorum can't be made of one key's repetitions."""
    assert len(open_note(_NOTE + _LINE, _KNOWN).signatures) == 1


def test_a_bad_repetition_spoils_the_note() -> None:
    """Every signature of a known key is verified, not only its first."""
    with pytest.raises(VerificationError, match="does not hold"):
        open_note(_NOTE + _line(_KEY, "another\n"), _KNOWN)


def test_two_known_keys_that_no_line_could_tell_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ids are short: whoever configures two keys with one name and id is told."""
    monkeypatch.setattr(VerifyingKey, "key_id", b"same")
    with pytest.raises(InvalidKey, match="same id"):
        open_note(_NOTE, [_KEY.verifier, _NEXT_KEY.verifier])


_SIG = _LINE.split(" ")[2].strip()
_MALFORMED = {
    "empty": "",
    "a newline": "\n",
    "two newlines": "\n\n",
    "a text alone": _TEXT,
    "a text and an empty line": f"{_TEXT}\n",
    "no empty line": _TEXT + _LINE,
    "no final newline": _NOTE[:-1],
    "a further empty line": _NOTE + "\n",
    "a text behind the signatures": _NOTE + "more\n",
    "a line with a hyphen": _NOTE.replace("\u2014", "-"),
    "a line without a dash": _NOTE.replace("\u2014 ", ""),
    "no space behind the dash": _NOTE.replace("\u2014 ", "\u2014"),
    "no name": f"{_TEXT}\n\u2014 {_SIG}\n",
    "an empty name": f"{_TEXT}\n\u2014  {_SIG}\n",
    "a plus in a name": _NOTE + f"\u2014 a+b {_SIG}\n",
    "a Unicode space in a name": _NOTE + f"\u2014 a\u2003b {_SIG}\n",
    "no signature": _NOTE + "\u2014 name\n",
    "an empty signature": _NOTE + "\u2014 name \n",
    "a signature of an id alone": _NOTE + _raw_line("name", b"four"),
    "no base64": _NOTE + "\u2014 name ****\n",
    "base64 beyond ASCII": _NOTE + "\u2014 name éééé\n",
    "base64 without padding": _NOTE + f"\u2014 name {_SIG.rstrip('=')}\n",
    "base64 with other rests": _NOTE + "\u2014 name AAAAAAAAAB==\n",
    "base64 of the URL alphabet": _NOTE + "\u2014 name ____AAAA\n",
    "two spaces": _NOTE + f"\u2014 name  {_SIG}\n",
    "a space at the end": _NOTE + f"\u2014 name {_SIG} \n",
    "a carriage return": _NOTE.replace("\n", "\r\n"),
    "a tab in the text": f"a\tb\n\n{_LINE}",
    "a zero byte": f"a\0b\n\n{_LINE}",
    "a lone surrogate": f"a\ud800b\n\n{_LINE}",
    "no UTF-8": b"\xff" + _NOTE.encode(),
    "over a megabyte": "x" * MAX_NOTE_BYTES + _NOTE,
    "over a megabyte of UTF-8": "é" * (MAX_NOTE_BYTES // 2) + _NOTE,
    "over a hundred signatures": _NOTE + _line(_STRANGER) * MAX_SIGNATURES,
}


@pytest.mark.parametrize("note", _MALFORMED.values(), ids=_MALFORMED)
def test_a_malformed_note_is_rejected(note: str | bytes) -> None:
    """Each way in which a note can be malformed is a `VerificationError` with a reason."""
    with pytest.raises(VerificationError) as raised:
        open_note(note, _KNOWN)
    assert "does not hold" not in str(raised.value)
    with pytest.raises(VerificationError):
        cosignatures(note, [])
    with pytest.raises(VerificationError):
        add_signatures(note, [])


def test_a_hundred_signatures_are_read() -> None:
    """The limit is well above the sixteen that every verifier must accept."""
    assert open_note(_NOTE + _line(_STRANGER) * (MAX_SIGNATURES - 1), _KNOWN).text == _TEXT


@pytest.mark.parametrize("keys", [(), (_WITNESS,)], ids=["none", "a witness's"])
def test_a_note_is_signed_by_logs_keys(keys: tuple[SigningKey, ...]) -> None:
    """No note goes out unsigned, and a witness's key signs none."""
    with pytest.raises(InvalidKey):
        sign_note(_TEXT, keys)


# --- checkpoints

_checkpoints = st.builds(
    Checkpoint,
    origin=st.text(min_size=1, max_size=30),
    tree_size=st.integers(-2, 2**63 + 1),
    root_hash=st.binary(min_size=31, max_size=33),
    extensions=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)


@given(_checkpoints)
@example(Checkpoint(origin="a\u2028b", tree_size=0, root_hash=_ROOT, extensions=("\u2014 x",)))
@example(Checkpoint(origin="a\n5", tree_size=0, root_hash=_ROOT))
def test_what_is_written_is_read_as_the_same_checkpoint(checkpoint: Checkpoint) -> None:
    """A checkpoint whose text would say something else isn't written at all."""
    with suppress(VerificationError):
        assert parse_checkpoint(checkpoint_text(checkpoint)) == checkpoint


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_every_size_is_written(size: int) -> None:
    """From the empty tree to the largest one."""
    checkpoint = Checkpoint(origin=_ORIGIN, tree_size=size, root_hash=_ROOT)
    assert open_checkpoint(sign_checkpoint(checkpoint, [_KEY]), _KNOWN) == checkpoint


def test_extension_lines_are_kept() -> None:
    """Others may add lines to a checkpoint; they are signed with the rest."""
    checkpoint = Checkpoint(origin=_ORIGIN, tree_size=1, root_hash=_ROOT, extensions=("a b", "c"))
    note = sign_checkpoint(checkpoint, [_KEY])
    assert open_checkpoint(note, _KNOWN) == checkpoint
    assert not _we_accept(note.replace("a b\n", ""), _KEY.verifier)


_NO_CHECKPOINTS = {
    "one line": f"{_ORIGIN}\n",
    "two lines": f"{_ORIGIN}\n5\n",
    "an empty origin": f"\n5\n{_ROOT64}\n",
    "an empty size": f"{_ORIGIN}\n\n{_ROOT64}\n",
    "a leading zero": f"{_ORIGIN}\n05\n{_ROOT64}\n",
    "two zeros": f"{_ORIGIN}\n00\n{_ROOT64}\n",
    "a sign": f"{_ORIGIN}\n+5\n{_ROOT64}\n",
    "a negative size": f"{_ORIGIN}\n-5\n{_ROOT64}\n",
    "a hexadecimal size": f"{_ORIGIN}\n0x5\n{_ROOT64}\n",
    "a size with an underscore": f"{_ORIGIN}\n1_0\n{_ROOT64}\n",
    "a size with a space": f"{_ORIGIN}\n5 \n{_ROOT64}\n",
    "digits of another script": f"{_ORIGIN}\n\u0665\n{_ROOT64}\n",
    "a size past the largest": f"{_ORIGIN}\n{2**63}\n{_ROOT64}\n",
    "five thousand digits": f"{_ORIGIN}\n{'9' * 5000}\n{_ROOT64}\n",
    "an empty root": f"{_ORIGIN}\n5\n\n",
    "a root of 31 bytes": f"{_ORIGIN}\n5\n{base64.b64encode(_ROOT[1:]).decode()}\n",
    "a root of 33 bytes": f"{_ORIGIN}\n5\n{base64.b64encode(_ROOT + b'x').decode()}\n",
    "a root in hexadecimal": f"{_ORIGIN}\n5\n{_ROOT.hex()}\n",
    "a root without padding": f"{_ORIGIN}\n5\n{_ROOT64.rstrip('=')}\n",
    "a root with other rests": f"{_ORIGIN}\n5\n{'A' * 42}B=\n",
    "an empty extension": f"{_ORIGIN}\n5\n{_ROOT64}\n\n",
    "an empty line between": f"{_ORIGIN}\n5\n{_ROOT64}\n\nmore\n",
}


@pytest.mark.parametrize("text", _NO_CHECKPOINTS.values(), ids=_NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_rejected_though_it_is_signed(text: str) -> None:
    """Each way in which a checkpoint can be malformed is a `VerificationError`."""
    with pytest.raises(VerificationError):
        open_checkpoint(sign_note(text, [_KEY]), _KNOWN)
    with pytest.raises(VerificationError):
        cosign(text, _WITNESS, 7)
    with pytest.raises(VerificationError):
        cosignatures(sign_note(text, [_KEY]), [])


@pytest.mark.parametrize("text", ["", _TEXT[:-1], _NOTE])
def test_a_checkpoint_s_text_ends_with_its_last_line(text: str) -> None:
    """Neither without its newline nor with the signatures is it the text of a checkpoint."""
    with pytest.raises(VerificationError):
        parse_checkpoint(text)


def test_the_origin_asked_for_is_the_one_that_is_there() -> None:
    """A checkpoint of another log is not what was asked for, though its key is known."""
    assert open_checkpoint(_NOTE, _KNOWN, origin=_ORIGIN) == _CHECKPOINT
    with pytest.raises(VerificationError, match=r"not of example\.com/audit/other"):
        open_checkpoint(_NOTE, _KNOWN, origin="example.com/audit/other")


def test_a_tenant_s_checkpoint_can_t_be_passed_off_as_another_s() -> None:
    """Tenants' keys share a seed: the signature holds under the other name, the origin tells."""
    base = SigningKey.from_seed("example.com/audit", b"1" * 32)
    other = base.for_tenant("other").verifier
    passed_off = f"{_TEXT}\n" + _raw_line(other.name, other.key_id + _KEY.sign(_TEXT.encode()))
    assert open_note(passed_off, [other]).text == _TEXT
    with pytest.raises(VerificationError, match=f"is of {_ORIGIN}"):
        open_checkpoint(passed_off, [other])
    with pytest.raises(VerificationError, match=f"is of {_ORIGIN}"):
        open_checkpoint(passed_off, [other], origin=other.name)


def test_a_log_whose_key_has_another_name_is_asked_for_by_its_origin() -> None:
    """Other people's logs need not be named as their keys are."""
    note = sign_note(_TEXT, [_STRANGER])
    with pytest.raises(VerificationError, match=r"signed by example\.net/stranger"):
        open_checkpoint(note, [_STRANGER.verifier])
    assert open_checkpoint(note, [_STRANGER.verifier], origin=_ORIGIN) == _CHECKPOINT


def test_a_witness_alone_makes_no_checkpoint() -> None:
    """A cosignature says that a log signed; the log's own signature must be there too."""
    note = f"{_TEXT}\n" + cosign(_TEXT, _WITNESS, 7)
    with pytest.raises(VerificationError, match="no signature of a log"):
        open_checkpoint(note, [_KEY.verifier, _WITNESS.verifier], origin=_ORIGIN)


def test_a_key_signs_checkpoints_of_its_own_log_only() -> None:
    """A checkpoint under a tenant's origin never gets another tenant's name by mistake."""
    with pytest.raises(InvalidKey, match="is not the key of"):
        sign_checkpoint(_CHECKPOINT, [_KEY, _STRANGER])


# --- cosignatures


def test_witnesses_add_their_lines() -> None:
    """The text and the log's signature stay; the witnesses and their times are listed."""
    lines = [cosign(_TEXT, _WITNESS, 1000), cosign(_TEXT, _OTHER_WITNESS, 2000)]
    note = add_signatures(_NOTE, lines)
    assert note == _NOTE + "".join(lines)
    witnesses = [_WITNESS.verifier, _OTHER_WITNESS.verifier]
    assert cosignatures(note, witnesses) == [(_WITNESS.name, 1000), (_OTHER_WITNESS.name, 2000)]
    assert cosignatures(note, witnesses[1:]) == [(_OTHER_WITNESS.name, 2000)]
    assert cosignatures(_NOTE, witnesses) == []
    assert open_checkpoint(note, [_KEY.verifier, *witnesses]) == _CHECKPOINT


def test_a_log_s_signature_is_no_cosignature() -> None:
    """A key of a log that is among the known keys is not counted with the witnesses."""
    note = add_signatures(_NOTE, [cosign(_TEXT, _WITNESS, 1000)])
    assert cosignatures(note, [_KEY.verifier, _WITNESS.verifier]) == [(_WITNESS.name, 1000)]


def test_of_one_witness_the_latest_time_counts() -> None:
    """Two lines of a witness on one note are one cosignature."""
    note = _NOTE + cosign(_TEXT, _WITNESS, 2000) + cosign(_TEXT, _WITNESS, 1000)
    assert cosignatures(note, [_WITNESS.verifier]) == [(_WITNESS.name, 2000)]


def test_a_cosignature_with_another_time_does_not_hold() -> None:
    """The time is signed too: nobody can make a cosignature older or younger."""
    signature = bytearray(_WITNESS.cosign(_TEXT.encode(), 1000))
    signature[7] ^= 1
    note = _NOTE + _raw_line(_WITNESS.name, _WITNESS.verifier.key_id + bytes(signature))
    with pytest.raises(VerificationError, match="witness does not hold"):
        cosignatures(note, [_WITNESS.verifier])
    with pytest.raises(VerificationError, match="witness does not hold"):
        open_checkpoint(note, [_KEY.verifier, _WITNESS.verifier])


def test_adding_lines_again_changes_nothing() -> None:
    """Whoever gathers cosignatures may do so twice, and with or without line ends."""
    line = cosign(_TEXT, _WITNESS, 1000)
    once = add_signatures(_NOTE, [line, line.removesuffix("\n")])
    assert once == add_signatures(once, [line]) == _NOTE + line


def test_no_line_takes_the_place_of_a_signature_that_is_there() -> None:
    """A witness that answers with a line in the log's name can't spoil the checkpoint."""
    forged = _raw_line(_ORIGIN, _KEY.verifier.key_id + bytes(64))
    assert add_signatures(_NOTE, [forged]) == _NOTE


@pytest.mark.parametrize("line", ["", "\n", "text\n", _LINE + _LINE, "\u2014 name AAAA\n"])
def test_what_is_no_signature_line_is_not_added(line: str) -> None:
    """A witness's answer is somebody else's text: it must be one line, and of the right form."""
    with pytest.raises(VerificationError):
        add_signatures(_NOTE, [line])


def test_no_more_lines_are_added_than_can_be_read() -> None:
    """A note that `open_note` would refuse isn't made."""
    lines = [_raw_line(f"n{n}", b"id__x") for n in range(MAX_SIGNATURES)]
    with pytest.raises(VerificationError, match="signatures"):
        add_signatures(_NOTE, lines)


def test_a_log_s_key_does_not_cosign() -> None:
    """A log can't be the witness of itself by mistake."""
    with pytest.raises(InvalidKey, match="witness"):
        cosign(_TEXT, _KEY, 7)


# --- hostile input

_any_text = st.text(st.characters(exclude_categories=()), max_size=80)
_piece = st.one_of(
    _any_text,
    st.sampled_from(["\n", "\n\n", "\u2014 ", " ", _TEXT, _LINE, _SIG, _ORIGIN, "0", "+"]),
)
_anything: st.SearchStrategy[Any] = st.one_of(
    st.binary(max_size=200), _any_text, st.lists(_piece, max_size=12).map("".join)
)


@given(_anything, st.booleans())
def test_whatever_is_given_is_a_checkpoint_or_a_verification_error(
    given_note: str | bytes,
    behind: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """No other exception comes out, and no checkpoint that the key didn't sign."""
    if behind and isinstance(given_note, str):
        given_note = _NOTE + given_note
    with suppress(VerificationError):
        assert open_checkpoint(given_note, _KNOWN) == _CHECKPOINT
    with suppress(VerificationError):
        cosignatures(given_note, [_WITNESS.verifier])
    with suppress(VerificationError):
        add_signatures(given_note, [_LINE])
    if isinstance(given_note, str):
        with suppress(VerificationError):
            parse_checkpoint(given_note)
        with suppress(VerificationError):
            add_signatures(_NOTE, [given_note])


@given(st.integers(0, len(_NOTE) - 1), st.sampled_from(["put", "change", "drop"]), st.characters())
@example(len(_NOTE) - 1, "put", "\n")
@example(0, "put", "\n")
def test_no_character_of_a_note_can_be_altered(place: int, how: str, character: str) -> None:
    """Any character put in, changed or dropped, in the text or a signature, and it is rejected."""
    rest = _NOTE[place:] if how == "put" else _NOTE[place + 1 :]
    altered = _NOTE[:place] + ("" if how == "drop" else character) + rest
    if altered != _NOTE:
        with pytest.raises(VerificationError):
            open_checkpoint(altered, _KNOWN)


@given(st.integers(0, len(_NOTE.encode()) - 1), st.integers(1, 255))
def test_no_byte_of_a_note_can_be_altered(place: int, change: int) -> None:
    """As for characters, also where the bytes are no UTF-8 any more."""
    altered = bytearray(_NOTE.encode())
    altered[place] ^= change
    with pytest.raises(VerificationError):
        open_checkpoint(bytes(altered), _KNOWN)
