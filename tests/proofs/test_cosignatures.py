"""The lines that witnesses add to a checkpoint."""

from __future__ import annotations

import pytest

from muniment.checkpoint import (
    MAX_SIGNATURES,
    add_signatures,
    cosign,
    cosignatures,
    open_checkpoint,
)
from muniment.errors import InvalidKey, VerificationError
from tests.proofs.notes import (
    CHECKPOINT,
    KEY,
    LINE,
    NOTE,
    ORIGIN,
    OTHER_WITNESS,
    TEXT,
    WITNESS,
    raw_line,
)


def test_witnesses_add_their_lines() -> None:
    """The text and the log's signature stay; the witnesses and their times are listed."""
    lines = [cosign(TEXT, WITNESS, 1000), cosign(TEXT, OTHER_WITNESS, 2000)]
    note = add_signatures(NOTE, lines)
    assert note == NOTE + "".join(lines)
    witnesses = [WITNESS.verifier, OTHER_WITNESS.verifier]
    assert cosignatures(note, witnesses) == [(WITNESS.name, 1000), (OTHER_WITNESS.name, 2000)]
    assert cosignatures(note, witnesses[1:]) == [(OTHER_WITNESS.name, 2000)]
    assert cosignatures(NOTE, witnesses) == []
    assert open_checkpoint(note, [KEY.verifier, *witnesses]) == CHECKPOINT


def test_a_log_s_signature_is_no_cosignature() -> None:
    """A key of a log that is among the known keys is not counted with the witnesses."""
    note = add_signatures(NOTE, [cosign(TEXT, WITNESS, 1000)])
    assert cosignatures(note, [KEY.verifier, WITNESS.verifier]) == [(WITNESS.name, 1000)]


def test_of_one_witness_the_latest_time_counts() -> None:
    """Two lines of a witness on one note are one cosignature."""
    note = NOTE + cosign(TEXT, WITNESS, 2000) + cosign(TEXT, WITNESS, 1000)
    assert cosignatures(note, [WITNESS.verifier]) == [(WITNESS.name, 2000)]


def test_a_cosignature_with_another_time_does_not_hold() -> None:
    """The time is signed too: nobody can make a cosignature older or younger."""
    signature = bytearray(WITNESS.cosign(TEXT.encode(), 1000))
    signature[7] ^= 1
    note = NOTE + raw_line(WITNESS.name, WITNESS.verifier.key_id + bytes(signature))
    with pytest.raises(VerificationError, match="witness does not hold"):
        cosignatures(note, [WITNESS.verifier])
    with pytest.raises(VerificationError, match="witness does not hold"):
        open_checkpoint(note, [KEY.verifier, WITNESS.verifier])


def test_adding_lines_again_changes_nothing() -> None:
    """Whoever gathers cosignatures may do so twice, and with or without line ends."""
    line = cosign(TEXT, WITNESS, 1000)
    once = add_signatures(NOTE, [line, line.removesuffix("\n")])
    assert once == add_signatures(once, [line]) == NOTE + line


def test_no_line_takes_the_place_of_a_signature_that_is_there() -> None:
    """A witness that answers with a line in the log's name can't spoil the checkpoint."""
    forged = raw_line(ORIGIN, KEY.verifier.key_id + bytes(64))
    assert add_signatures(NOTE, [forged]) == NOTE


@pytest.mark.parametrize("line", ["", "\n", "text\n", LINE + LINE, "\u2014 name AAAA\n"])
def test_what_is_no_signature_line_is_not_added(line: str) -> None:
    """A witness's answer is somebody else's text: it must be one line, and of the right form."""
    with pytest.raises(VerificationError):
        add_signatures(NOTE, [line])


def test_no_more_lines_are_added_than_can_be_read() -> None:
    """A note that `open_note` would refuse isn't made."""
    lines = [raw_line(f"n{n}", b"id__x") for n in range(MAX_SIGNATURES)]
    with pytest.raises(VerificationError, match="signatures"):
        add_signatures(NOTE, lines)


def test_a_log_s_key_does_not_cosign() -> None:
    """A log can't be the witness of itself by mistake."""
    with pytest.raises(InvalidKey, match="witness"):
        cosign(TEXT, KEY, 7)
