from __future__ import annotations

import base64
import pickle
import traceback
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales.signing import Vkey

from muniment.errors import InvalidConfig, InvalidKey
from muniment.keys import MAX_NEW_NAME_BYTES, KeyKind, SigningKey, VerifyingKey

_SEED = bytes(range(32))
_KEY = SigningKey.from_seed("example.com/audit", _SEED)
_OTHER = SigningKey.from_seed("example.com/audit", _SEED[::-1])
_WITNESS = SigningKey.from_seed("example.org/witness", _SEED, kind=KeyKind.WITNESS)
# The key pair and the signature of the examples of golang.org/x/mod/sumdb/note.
_GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
_GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
_GO_TEXT = (
    b"If you think cryptography is the answer to your problem,\n"
    b"then you don't know what your problem is.\n"
)
_GO_SIGNATURE = (
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- the formats


def test_go_s_private_key_is_read_and_signs_as_go_signs() -> None:
    """A known key of Go's note package has the same public key, id and signature here."""
    key = SigningKey.parse(_GO_PRIVATE)
    assert key.verifier.text() == _GO_PUBLIC
    assert _encoded(key.verifier.key_id + key.sign(_GO_TEXT)) == _GO_SIGNATURE


def test_go_s_public_key_verifies_go_s_signature() -> None:
    """What Go signed is verified with the public key that Go wrote."""
    key = VerifyingKey.parse(_GO_PUBLIC)
    signature = base64.b64decode(_GO_SIGNATURE)
    assert key.key_id == signature[:4]
    assert key.verify(_GO_TEXT, signature[4:])


@pytest.mark.parametrize("key", [_KEY, _WITNESS], ids=["log", "witness"])
def test_a_private_key_is_read_as_it_was_written(key: SigningKey) -> None:
    """The text of a private key gives the same key again, of the same kind."""
    again = SigningKey.parse(key.text() + "\n")
    assert (again, again.text()) == (key, key.text())


@pytest.mark.parametrize("key", [_KEY, _WITNESS], ids=["log", "witness"])
def test_a_public_key_is_read_as_it_was_written(key: SigningKey) -> None:
    """The text of a public key gives the same key again, of the same kind."""
    assert VerifyingKey.parse(key.verifier.text() + "\n") == key.verifier


@pytest.mark.parametrize("key", [_KEY, _WITNESS], ids=["log", "witness"])
def test_another_reader_finds_the_same_public_key(key: SigningKey) -> None:
    """tlog-scales reads our public key, and computes the same id from its parts."""
    read = Vkey.from_string(key.verifier.text())
    computed = Vkey(read.name, None, read.sig_type, read.pubkey)
    assert (computed.name, computed.key_id) == (key.verifier.name, read.key_id)
    assert read.key_id.to_bytes(4, "big") == key.verifier.key_id
    assert (read.sig_type, read.pubkey) == (key.kind, key.verifier.public_key)


def test_a_witness_s_key_has_another_id_than_a_log_s() -> None:
    """The same seed and name, for another kind of signature, are another key."""
    ids = {SigningKey.from_seed("a", _SEED, kind=kind).verifier.key_id for kind in KeyKind}
    assert len(ids) == 2


def test_generated_keys_differ() -> None:
    """No two keys are alike, though they bear one name."""
    assert SigningKey.generate("a") != SigningKey.generate("a")


# --- what isn't a key

_ID = _KEY.verifier.key_id.hex()
_PUBLIC = b"\x01" + _KEY.verifier.public_key
_NO_PUBLIC_KEYS = {
    "empty": "",
    "a name alone": "example.com/audit",
    "no name": f"+{_ID}+{_encoded(_PUBLIC)}",
    "a space in the name": f"exa mple+{_ID}+{_encoded(_PUBLIC)}",
    "a no-break space in the name": f"exa\u00a0mple+{_ID}+{_encoded(_PUBLIC)}",
    "a control character in the name": f"exa\x07mple+{_ID}+{_encoded(_PUBLIC)}",
    "a lone surrogate in the name": f"exa\ud800mple+{_ID}+{_encoded(_PUBLIC)}",
    "an id in capitals": _KEY.verifier.text().replace(_ID, _ID.upper()),
    "a short id": f"example.com/audit+{_ID[:7]}+{_encoded(_PUBLIC)}",
    "another id": f"example.com/audit+{'0' * 8}+{_encoded(_PUBLIC)}",
    "another name": f"example.com/other+{_ID}+{_encoded(_PUBLIC)}",
    "no base64": f"example.com/audit+{_ID}+***",
    "base64 beyond ASCII": f"example.com/audit+{_ID}+é",
    "base64 without padding": _KEY.verifier.text() + "A",
    "no type": f"example.com/audit+{_ID}+",
    "an unknown type": f"example.com/audit+{_ID}+{_encoded(bytes([6]) + _PUBLIC[1:])}",
    "31 bytes": f"example.com/audit+{_ID}+{_encoded(_PUBLIC[:-1])}",
    "33 bytes": f"example.com/audit+{_ID}+{_encoded(_PUBLIC + b'x')}",
    "a long name": f"{'n' * 2049}+{_ID}+{_encoded(_PUBLIC)}",
    "a private key": _KEY.text(),
}


@pytest.mark.parametrize("text", _NO_PUBLIC_KEYS.values(), ids=_NO_PUBLIC_KEYS)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    """Each way in which a public key can be malformed raises `InvalidKey`."""
    with pytest.raises(InvalidKey):
        VerifyingKey.parse(text)


def _private(data: bytes, *, name: str = "example.com/audit", key_id: str = _ID) -> str:
    return f"PRIVATE+KEY+{name}+{key_id}+{_encoded(data)}"


_NO_PRIVATE_KEYS = {
    "empty": "",
    "a public key": _KEY.verifier.text(),
    "no name": _private(b"\x01" + _SEED, name=""),
    "another name": _private(b"\x01" + _SEED, name="example.com/other"),
    "another id": _private(b"\x01" + _SEED, key_id="0" * 8),
    "the id of the other kind": _private(b"\x04" + _SEED),
    "an unknown type": _private(b"\x02" + _SEED),
    "31 bytes": _private(b"\x01" + _SEED[:-1]),
    "33 bytes": _private(b"\x01" + _SEED + b"x"),
    "cut off": _KEY.text()[:-5],
    "another character": _KEY.text()[:-5] + "!" + _KEY.text()[-4:],
    "the seed alone": _encoded(_SEED),
}


@pytest.mark.parametrize("text", _NO_PRIVATE_KEYS.values(), ids=_NO_PRIVATE_KEYS)
def test_what_is_no_private_key_is_refused_without_a_word_of_it(text: str) -> None:
    """A private key with a mistake in it is still a secret: neither error nor cause shows it."""
    with pytest.raises(InvalidKey) as raised:
        SigningKey.parse(text)
    shown = "".join(traceback.format_exception(raised.value))
    secret = _encoded(b"\x01" + _SEED)
    assert not any(secret[n : n + 8] in str(raised.value) for n in range(len(secret) - 8))
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None, shown


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_a_key_or_an_invalid_key(text: str) -> None:
    """Whatever is given as a key, no other exception comes out."""
    for parse in (VerifyingKey.parse, SigningKey.parse):
        for whole in (text, f"PRIVATE+KEY+{text}", f"name+{_ID}+{text}"):
            with pytest.raises(InvalidKey):
                parse(whole)


def test_a_bad_key_is_a_bad_setting() -> None:
    """The command line takes `InvalidKey` for bad use, as any `InvalidConfig`."""
    assert issubclass(InvalidKey, InvalidConfig)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2028b", "a\x00b", "a\u200bb"])
def test_a_new_key_s_name_can_be_seen_and_stand_in_a_note(name: str) -> None:
    """Names end at spaces in notes and at plus signs in keys; what is hidden misleads."""
    with pytest.raises(InvalidKey, match="name"):
        SigningKey.generate(name)


def test_a_new_key_s_name_leaves_room_for_every_tenant() -> None:
    """The longest name with the longest tenant id behind it is a name still; a longer one isn't."""
    longest = SigningKey.generate("n" * MAX_NEW_NAME_BYTES).for_tenant("é" * 256)
    assert SigningKey.parse(longest.text()) == longest
    with pytest.raises(InvalidKey, match="shorter"):
        SigningKey.generate("n" * (MAX_NEW_NAME_BYTES + 1))


# --- signatures


def test_a_signature_is_plain_ed25519() -> None:
    """`cryptography` verifies what a log's key signed."""
    public = Ed25519PublicKey.from_public_bytes(_KEY.verifier.public_key)
    public.verify(_KEY.sign(b"text\n"), b"text\n")


def test_a_witness_s_signature_is_over_its_time_and_the_text() -> None:
    """`cryptography` verifies a cosignature over the message that the specification gives."""
    signature = _WITNESS.cosign(b"text\n", 1_679_315_147)
    assert signature[:8] == (1_679_315_147).to_bytes(8, "big")
    public = Ed25519PublicKey.from_public_bytes(_WITNESS.verifier.public_key)
    public.verify(signature[8:], b"cosignature/v1\ntime 1679315147\ntext\n")


@given(st.binary(max_size=80), st.integers(0, 79), st.integers(1, 255))
def test_an_altered_signature_does_not_hold(message: bytes, place: int, change: int) -> None:
    """Any byte of a signature, changed or missing, makes `verify` say no, and never raise."""
    for key, signature in ((_KEY, _KEY.sign(message)), (_WITNESS, _WITNESS.cosign(message, 7))):
        altered = bytearray(signature)
        altered[place % len(signature)] ^= change
        assert key.verifier.verify(message, signature)
        assert not key.verifier.verify(message, bytes(altered))
        assert not key.verifier.verify(message, signature[:place][: len(signature) - 1])
        assert not key.verifier.verify(message + b"x", signature)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_any_public_key_and_signature_are_answered(public: bytes, signature: bytes) -> None:
    """Bytes that are no point of the curve verify nothing, and raise `InvalidKey` at most."""
    with suppress(InvalidKey):
        assert not VerifyingKey(name="a", public_key=public).verify(b"text\n", signature)


_EIGHTH = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
_WEAK_KEYS = {
    "order 1": "01" + "00" * 31,
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4": "00" * 32,
    "order 4, the other": "00" * 31 + "80",
    "order 8": _EIGHTH,
    "order 8, the other": _EIGHTH[:-2] + "85",
    "order 8, negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 1, not reduced": "ee" + "ff" * 30 + "7f",
    "order 4, not reduced": "ed" + "ff" * 30 + "7f",
}


@pytest.mark.parametrize("public", _WEAK_KEYS.values(), ids=_WEAK_KEYS)
def test_a_key_that_anybody_can_sign_for_is_refused(public: str) -> None:
    """Under a point of small order one signature holds for many messages, so it proves nothing."""
    with pytest.raises(InvalidKey, match="weak"):
        VerifyingKey(name="a", public_key=bytes.fromhex(public))


def test_a_time_past_the_last_one_does_not_hold() -> None:
    """A cosignature's time does not exceed 2^63 - 1 (tlog-cosignature, "Format")."""
    assert _WITNESS.verifier.verify(b"text\n", _WITNESS.cosign(b"text\n", 2**63 - 1))
    with pytest.raises(InvalidKey):
        _WITNESS.cosign(b"text\n", 2**63)
    late = (2**63).to_bytes(8, "big") + _WITNESS._private.sign(
        b"cosignature/v1\ntime %d\ntext\n" % 2**63
    )
    assert not _WITNESS.verifier.verify(b"text\n", late)


def test_each_kind_of_key_signs_its_own_kind_only() -> None:
    """A log's key never cosigns and a witness's never signs, so neither stands for the other."""
    with pytest.raises(InvalidKey, match="witness"):
        _WITNESS.sign(b"text\n")
    with pytest.raises(InvalidKey, match="witness"):
        _KEY.cosign(b"text\n", 7)


# --- secrecy


@pytest.mark.parametrize("show", [str, repr, "{}".format, lambda k: repr([k, {"key": k}])])
def test_a_key_that_is_shown_shows_its_public_half(show: Callable[[SigningKey], str]) -> None:
    """What ends up in a log line or a debugger is the public key."""
    shown = show(_KEY)
    assert _KEY.verifier.text() in shown
    assert _encoded(b"\x01" + _SEED) not in shown
    assert repr(_SEED) not in shown
    assert _SEED.hex() not in shown


@pytest.mark.parametrize("encode", [pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode])
def test_a_key_is_not_serialised_by_accident(encode: Callable[[SigningKey], bytes]) -> None:
    """Only `text` gives the secret away."""
    with pytest.raises(TypeError):
        encode(_KEY)


def test_equal_keys_are_one() -> None:
    """Two readings of one key are equal, and so are their hashes."""
    assert len({_KEY, SigningKey.parse(_KEY.text()), _OTHER}) == 2
    assert _KEY != "example.com/audit"
