"""A signed checkpoint, those who signed it, and lines for it."""

from __future__ import annotations

import base64
import hashlib

from muniment.checkpoint import Checkpoint, sign_checkpoint, sign_note
from muniment.keys import KeyKind, SigningKey

ORIGIN = "example.com/audit/acme"
KEY = SigningKey.from_seed(ORIGIN, b"1" * 32)
NEXT_KEY = SigningKey.from_seed(ORIGIN, b"2" * 32)
STRANGER = SigningKey.from_seed("example.net/stranger", b"3" * 32)
WITNESS = SigningKey.from_seed("example.org/witness", b"4" * 32, kind=KeyKind.WITNESS)
OTHER_WITNESS = SigningKey.from_seed("example.net/witness", b"5" * 32, kind=KeyKind.WITNESS)
KNOWN = (KEY.verifier,)
ROOT = hashlib.sha256(b"root").digest()
ROOT64 = base64.b64encode(ROOT).decode()
CHECKPOINT = Checkpoint(origin=ORIGIN, tree_size=20_852_163, root_hash=ROOT)
TEXT = f"{ORIGIN}\n20852163\n{ROOT64}\n"
NOTE = sign_checkpoint(CHECKPOINT, (KEY,))
LINE = NOTE.removeprefix(f"{TEXT}\n")


def line_of(key: SigningKey, text: str = TEXT) -> str:
    """The signature line of a key."""
    return sign_note(text, [key]).removeprefix(f"{text}\n")


def raw_line(name: str, data: bytes) -> str:
    """A signature line with any bytes in it."""
    return f"\u2014 {name} {base64.b64encode(data).decode()}\n"
