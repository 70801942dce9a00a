"""Each tenant has a log of its own, under a key of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muniment.errors import InvalidKey
from muniment.keys import (
    MAX_NAME_BYTES,
    KeyKind,
    SigningKey,
    VerifyingKey,
    from_base64,
    keys_of_log,
    origin_of,
)

_SEED = bytes(range(32))
_KEY = SigningKey.from_seed("example.com/audit", _SEED)
_WITNESS = SigningKey.from_seed("example.org/witness", _SEED, kind=KeyKind.WITNESS)


# --- which keys are a tenant's log's


def test_a_key_of_all_tenants_stands_for_the_one_asked_for() -> None:
    """A base key verifies the tenant's log, and not a log of its own name."""
    assert keys_of_log([_KEY.verifier], "a/b") == [_KEY.verifier.for_tenant("a/b")]


@pytest.mark.parametrize("tenant_id", ["acme", "a/b", "é", "%2F", "a b"])
def test_a_tenant_s_own_key_is_never_extended(tenant_id: str) -> None:
    """One key vouches for one log of a tenant; given twice, once in each form, it is one key."""
    own = _KEY.verifier.for_tenant(tenant_id)
    assert keys_of_log([own], tenant_id) == [own]
    assert keys_of_log([own, _KEY.verifier, own], tenant_id) == [own]


def test_a_base_name_that_ends_in_the_tenant_id_needs_the_tenant_s_key() -> None:
    """It can't be told from a tenant's own, and is taken for that."""
    base = SigningKey.from_seed("example.com/acme", b"1" * 32).verifier
    assert keys_of_log([base], "acme") == [base]
    assert keys_of_log([base.for_tenant("acme")], "acme") == [base.for_tenant("acme")]
    assert keys_of_log([base], "beta") == [base.for_tenant("beta")]


def test_a_name_that_merely_ends_alike_is_no_tenant_s() -> None:
    """The tenant id is all of the last part."""
    base = SigningKey.from_seed("example.com/big-acme", b"1" * 32).verifier
    assert keys_of_log([base], "acme") == [base.for_tenant("acme")]


def test_witnesses_are_of_every_log() -> None:
    """Their keys stay as they are, and in their place, whatever they are named."""
    named_alike = SigningKey.from_seed("example.org/acme", b"2" * 32, kind=KeyKind.WITNESS).verifier
    keys = [_WITNESS.verifier, _KEY.verifier, named_alike]
    expected = [_WITNESS.verifier, _KEY.verifier.for_tenant("acme"), named_alike]
    assert keys_of_log(keys, "acme") == expected


def test_a_key_that_can_have_no_such_tenant_is_left_out() -> None:
    """Its name would be too long: it signed no checkpoint of that tenant."""
    long = VerifyingKey(name="n" * MAX_NAME_BYTES, public_key=_KEY.verifier.public_key)
    assert keys_of_log([long, _KEY.verifier], "acme") == [_KEY.verifier.for_tenant("acme")]


@pytest.mark.parametrize("tenant_id", ["", "\ud800"])
def test_what_is_no_tenant_has_no_keys(tenant_id: str) -> None:
    """Nothing is a key of a log that can't be."""
    with pytest.raises(InvalidKey, match="tenant id"):
        keys_of_log([_KEY.verifier], tenant_id)


@pytest.mark.parametrize(
    ("text", "data"),
    [("AA==", b"\x00"), ("AB==", None), ("AA=", None), ("AA", None), ("A A==", None), ("", b"")],
)
def test_base64_has_one_spelling(text: str, data: bytes | None) -> None:
    """Of all the spellings that decoders take, only the canonical one is read."""
    assert from_base64(text) == data


# --- tenants


def test_a_tenant_s_key_is_the_same_key_under_the_name_of_its_log() -> None:
    """Signer and verifier come to the same name and id, each from its own half."""
    signer, verifier = _KEY.for_tenant("acme"), _KEY.verifier.for_tenant("acme")
    assert signer.verifier == verifier
    assert signer.name == "example.com/audit/acme" == origin_of("example.com/audit", "acme")
    assert verifier.verify(b"text\n", signer.sign(b"text\n"))
    assert verifier.key_id != _KEY.verifier.key_id


@given(st.text(min_size=1, max_size=50), st.text(min_size=1, max_size=50))
def test_every_tenant_has_a_log_of_its_own(one: str, other: str) -> None:
    """Whatever ids tenants have, their logs' names can be written, and differ if the ids do."""
    first, second = origin_of("example.com/audit", one), origin_of("example.com/audit", other)
    assert (first == second) == (one == other)
    assert VerifyingKey.parse(_KEY.verifier.for_tenant(one).text()).name == first


@pytest.mark.parametrize("tenant_id", ["", "\ud800"])
def test_what_is_no_tenant_has_no_log(tenant_id: str) -> None:
    """An id that no event can have raises `InvalidKey`."""
    with pytest.raises(InvalidKey, match="tenant"):
        _KEY.for_tenant(tenant_id)


def test_a_witness_has_no_tenants() -> None:
    """A witness cosigns under its one name."""
    with pytest.raises(InvalidKey, match="no tenants"):
        _WITNESS.for_tenant("acme")
