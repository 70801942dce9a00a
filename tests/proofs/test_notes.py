"""Signed notes: which signatures count, and what is none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muniment.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    add_signatures,
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
    LINE,
    NEXT_KEY,
    NOTE,
    ORIGIN,
    STRANGER,
    TEXT,
    WITNESS,
    line_of,
    raw_line,
)

# --- notes


@given(st.text(max_size=60), st.booleans())
def test_any_text_that_can_be_signed_is_opened_as_it_was(text: str, closed: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Texts with empty lines, separators and dashes come out of the note unchanged."""
    text = f"{text}\n" if closed else text
    fits = text.endswith("\n") and not any(c < " " and c != "\n" for c in text)
    if fits:
        assert open_note(sign_note(text, [KEY]), KNOWN).text == text
    else:
        with pytest.raises(VerificationError):
            sign_note(text, [KEY])


def test_a_note_may_be_bytes() -> None:
    """What comes from a file or the network needs no decoding first."""
    assert open_note(NOTE.encode(), KNOWN) == open_note(NOTE, KNOWN)


def test_all_keys_sign() -> None:
    """While one key follows another, whoever knows either of them can open the note."""
    note = sign_checkpoint(CHECKPOINT, (KEY, NEXT_KEY, KEY))
    for key in (KEY, NEXT_KEY):
        (signature,) = open_note(note, [key.verifier]).signatures
        assert signature.key_id == key.verifier.key_id
    assert len(open_note(note, [KEY.verifier, NEXT_KEY.verifier]).signatures) == 2


@pytest.mark.parametrize(
    "line",
    [
        line_of(STRANGER),
        raw_line("example.net/stranger", b"id__" + b"anything"),
        raw_line(ORIGIN, b"id__" + b"under a known name"),
        raw_line("example.net/stranger", KEY.verifier.key_id + b"under a known id"),
        raw_line("example.net/\u200b\x7f", b"id__" + b"x"),
    ],
)
def test_signatures_of_unknown_keys_are_ignored(line: str) -> None:
    """Name and id together tell a key; what is signed by others says nothing, good or bad."""
    for note in (NOTE + line, f"{TEXT}\n{line}{LINE}"):
        assert [s.name for s in open_note(note, KNOWN).signatures] == [ORIGIN]


def test_a_note_of_strangers_is_rejected() -> None:
    """Without a signature of a known key the text counts for nothing."""
    note = sign_note(TEXT, [STRANGER])
    with pytest.raises(VerificationError, match="no signature of a known key"):
        open_note(note, KNOWN)
    with pytest.raises(VerificationError, match="no signature of a known key"):
        open_note(NOTE, [])


def test_one_bad_signature_of_a_known_key_spoils_the_note() -> None:
    """Though another known key's holds (signed-note, "Signatures")."""
    note = NOTE + line_of(NEXT_KEY, "another\n")
    with pytest.raises(VerificationError, match="does not hold"):
        open_note(note, [KEY.verifier, NEXT_KEY.verifier])


def test_a_signature_twice_counts_once() -> None:
    """A quorum can't be made of one key's repetitions."""
    assert len(open_note(NOTE + LINE, KNOWN).signatures) == 1


def test_a_bad_repetition_spoils_the_note() -> None:
    """Every signature of a known key is verified, not only its first."""
    with pytest.raises(VerificationError, match="does not hold"):
        open_note(NOTE + line_of(KEY, "another\n"), KNOWN)


def test_two_known_keys_that_no_line_could_tell_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ids are short: whoever configures two keys with one name and id is told."""
    monkeypatch.setattr(VerifyingKey, "key_id", b"same")
    with pytest.raises(InvalidKey, match="same id"):
        open_note(NOTE, [KEY.verifier, NEXT_KEY.verifier])


_SIG = LINE.split(" ")[2].strip()
_MALFORMED = {
    "empty": "",
    "a newline": "\n",
    "two newlines": "\n\n",
    "a text alone": TEXT,
    "a text and an empty line": f"{TEXT}\n",
    "no empty line": TEXT + LINE,
    "no final newline": NOTE[:-1],
    "a further empty line": NOTE + "\n",
    "a text behind the signatures": NOTE + "more\n",
    "a line with a hyphen": NOTE.replace("\u2014", "-"),
    "a line without a dash": NOTE.replace("\u2014 ", ""),
    "no space behind the dash": NOTE.replace("\u2014 ", "\u2014"),
    "no name": f"{TEXT}\n\u2014 {_SIG}\n",
    "an empty name": f"{TEXT}\n\u2014  {_SIG}\n",
    "a plus in a name": NOTE + f"\u2014 a+b {_SIG}\n",
    "a Unicode space in a name": NOTE + f"\u2014 a\u2003b {_SIG}\n",
    "no signature": NOTE + "\u2014 name\n",
    "an empty signature": NOTE + "\u2014 name \n",
    "a signature of an id alone": NOTE + raw_line("name", b"four"),
    "no base64": NOTE + "\u2014 name ****\n",
    "base64 beyond ASCII": NOTE + "\u2014 name éééé\n",
    "base64 without padding": NOTE + f"\u2014 name {_SIG.rstrip('=')}\n",
    "base64 with other rests": NOTE + "\u2014 name AAAAAAAAAB==\n",
    "base64 of the URL alphabet": NOTE + "\u2014 name ____AAAA\n",
    "two spaces": NOTE + f"\u2014 name  {_SIG}\n",
    "a space at the end": NOTE + f"\u2014 name {_SIG} \n",
    "a carriage return": NOTE.replace("\n", "\r\n"),
    "a tab in the text": f"a\tb\n\n{LINE}",
    "a zero byte": f"a\0b\n\n{LINE}",
    "a lone surrogate": f"a\ud800b\n\n{LINE}",
    "no UTF-8": b"\xff" + NOTE.encode(),
    "over a megabyte": "x" * MAX_NOTE_BYTES + NOTE,
    "over a megabyte of UTF-8": "é" * (MAX_NOTE_BYTES // 2) + NOTE,
    "over a hundred signatures": NOTE + line_of(STRANGER) * MAX_SIGNATURES,
}


@pytest.mark.parametrize("note", _MALFORMED.values(), ids=_MALFORMED)
def test_a_malformed_note_is_rejected(note: str | bytes) -> None:
    """Each way in which a note can be malformed is a `VerificationError` with a reason."""
    with pytest.raises(VerificationError) as raised:
        open_note(note, KNOWN)
    assert "does not hold" not in str(raised.value)
    with pytest.raises(VerificationError):
        cosignatures(note, [])
    with pytest.raises(VerificationError):
        add_signatures(note, [])


def test_a_hundred_signatures_are_read() -> None:
    """The limit is well above the sixteen that every verifier must accept."""
    assert open_note(NOTE + line_of(STRANGER) * (MAX_SIGNATURES - 1), KNOWN).text == TEXT


@pytest.mark.parametrize("keys", [(), (WITNESS,)], ids=["none", "a witness's"])
def test_a_note_is_signed_by_logs_keys(keys: tuple[SigningKey, ...]) -> None:
    """No note goes out unsigned, and a witness's key signs none."""
    with pytest.raises(InvalidKey):
        sign_note(TEXT, keys)


# --- hostile input

_any_text = st.text(st.characters(exclude_categories=()), max_size=80)
_piece = st.one_of(
    _any_text,
    st.sampled_from(["\n", "\n\n", "\u2014 ", " ", TEXT, LINE, _SIG, ORIGIN, "0", "+"]),
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
        given_note = NOTE + given_note
    with suppress(VerificationError):
        assert open_checkpoint(given_note, KNOWN) == CHECKPOINT
    with suppress(VerificationError):
        cosignatures(given_note, [WITNESS.verifier])
    with suppress(VerificationError):
        add_signatures(given_note, [LINE])
    if isinstance(given_note, str):
        with suppress(VerificationError):
            parse_checkpoint(given_note)
        with suppress(VerificationError):
            add_signatures(NOTE, [given_note])


@given(st.integers(0, len(NOTE) - 1), st.sampled_from(["put", "change", "drop"]), st.characters())
@example(len(NOTE) - 1, "put", "\n")
@example(0, "put", "\n")
def test_no_character_of_a_note_can_be_altered(place: int, how: str, character: str) -> None:
    """Any character put in, changed or dropped, in the text or a signature, and it is rejected."""
    rest = NOTE[place:] if how == "put" else NOTE[place + 1 :]
    altered = NOTE[:place] + ("" if how == "drop" else character) + rest
    if altered != NOTE:
        with pytest.raises(VerificationError):
            open_checkpoint(altered, KNOWN)


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_no_byte_of_a_note_can_be_altered(place: int, change: int) -> None:
    """As for characters, also where the bytes are no UTF-8 any more."""
    altered = bytearray(NOTE.encode())
    altered[place] ^= change
    with pytest.raises(VerificationError):
        open_checkpoint(bytes(altered), KNOWN)
