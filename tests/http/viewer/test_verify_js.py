"""The browser verifies what our Python made, and finds what was tampered with."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pymerkle
import pytest
from msgspec.structs import replace

from muniment.checkpoint import sign_note, text_of
from muniment.keys import KeyKind, SigningKey
from muniment.merkle import leaf_hash, root_hash
from tests.http.viewer.verifying import (
    KEY,
    OTHER_KEY,
    Case,
    Verifier,
    base64_of,
    signed_note,
    trail,
    verifier,
)

OK = {"hash": "ok", "path": "ok", "checkpoint": "ok", "signature": "ok"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Verifier]:
    """One browser for all of them."""
    with verifier() as opened:
        yield opened


@pytest.fixture
def case() -> Case:
    """An event in the middle of a tree, as it should be."""
    return trail(13)[6]


def _all_hold(steps: list[dict[str, str]]) -> bool:
    return [step["result"] for step in steps] == ["holds"] * 4


def test_every_event_of_small_trees_is_proved(browser: Verifier) -> None:
    """Each leaf of each tree of 1 to 20 leaves holds, in all four steps."""
    cases = [case for size in range(1, 21) for case in trail(size)]
    assert all(map(_all_hold, browser.steps(*cases)))


def test_events_of_larger_trees_are_proved(browser: Verifier) -> None:
    """The first, the last and some other leaves of each tree of 21 to 70 leaves, and of larger."""
    chance = random.Random(6)  # noqa: S311 - a choice of cases, no secret
    cases = []
    for size in (*range(21, 71), 255, 256, 257, 1000):
        all_of_it = trail(size)
        cases += [all_of_it[0], all_of_it[-1], *chance.sample(all_of_it, 3)]
    assert all(map(_all_hold, browser.steps(*cases)))


def test_roots_are_those_of_another_implementation(browser: Verifier) -> None:
    """The walk ends at the root that pymerkle computes over the same bodies."""
    cases = trail(37)
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for case in cases:
        tree.append_entry(case.body)
    roots = {steps[1]["values"]["root"] for steps in browser.steps(*cases)}
    assert roots == {tree.get_root().hex()}


def test_a_tampered_body_fails_at_its_hash(browser: Verifier, case: Case) -> None:
    """The checkpoint and its signature are still good: it is the event that was changed."""
    assert case.body is not None
    changed = case.body.replace(b'"login"', b'"logon"')
    tampered = replace(case, body=changed)
    assert browser.told(tampered) == {**OK, "hash": "hash_differs", "path": "path_no_leaf"}


def test_a_tampered_body_with_a_hash_of_its_own_fails_at_the_path(
    browser: Verifier, case: Case
) -> None:
    """A service that changes the hash along with the body can't lead it to the root."""
    assert case.body is not None
    changed = case.body.replace(b'"login"', b'"logon"')
    tampered = replace(case, body=changed).but(leaf_hash=base64_of(leaf_hash(changed)))
    assert browser.told(tampered) == {**OK, "path": "path_elsewhere"}


def test_a_tree_made_up_over_a_tampered_body_fails_at_the_checkpoint(
    browser: Verifier, case: Case
) -> None:
    """What hashes well, to another root than the signed one, is not what was signed."""
    made_up = trail(13)[6].but(checkpoint=case.proof["checkpoint"])
    assert browser.told(made_up) == {**OK, "checkpoint": "checkpoint_differs"}


def test_another_event_well_proved_is_refused(browser: Verifier) -> None:
    """The proof must be of the event that the page is about."""
    one, other = trail(2)
    swapped = replace(other, event_id=one.event_id)
    assert browser.told(swapped)["hash"] == "hash_other_event"


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_any_wrong_hash_fails_at_the_path(browser: Verifier, case: Case, at: int) -> None:
    """One bit in one hash of the path leads elsewhere."""
    hashes = list(case.proof["hashes"])
    hashes[at] = base64_of(hashlib.sha256(b"another").digest())
    assert browser.told(case.but(hashes=hashes)) == {**OK, "path": "path_elsewhere"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda hashes: hashes[:-1], "path_too_short"),
        (lambda hashes: [*hashes, hashes[0]], "path_too_long"),
        (lambda hashes: [*hashes[:-1], "AAAA"], "path_no_hash"),
        (lambda hashes: [*hashes[:-1], hashes[-1].rstrip("=")], "path_no_hash"),
        (lambda hashes: list(reversed(hashes)), "path_elsewhere"),
    ],
    ids=["short", "long", "small", "unpadded", "turned"],
)
def test_a_path_of_another_shape_fails(
    browser: Verifier, case: Case, change: Callable[[list[str]], list[str]], code: str
) -> None:
    """Hashes that are missing, too many, no hashes or in another order."""
    assert browser.told(case.but(hashes=change(case.proof["hashes"]))) == {**OK, "path": code}


@pytest.mark.parametrize("index", [5, 7, 13, -1, 6.5, "6", None, 2**53])
def test_another_leaf_index_fails_at_the_path(browser: Verifier, case: Case, index: object) -> None:
    """The path is of one place in the tree."""
    told = browser.told(case.but(leaf_index=index))
    assert told.pop("path") in {"path_outside", "path_elsewhere", "path_too_long", "path_too_short"}
    assert set(told.values()) == {"ok"}


def test_a_forged_signature_fails_at_the_signature(browser: Verifier, case: Case) -> None:
    """One other character in it."""
    head, space, signed = case.proof["checkpoint"].rpartition(" ")
    forged = signed[:20] + ("A" if signed[20] != "A" else "B") + signed[21:]
    assert browser.told(case.but(checkpoint=head + space + forged)) == {
        **OK,
        "signature": "signature_forged",
    }


def test_a_checkpoint_changed_after_it_was_signed_fails_at_the_signature(
    browser: Verifier, case: Case
) -> None:
    """Even if tree, path and checkpoint agree with each other, nobody signed them."""
    other = trail(13)[6]
    text, gap, signed = case.proof["checkpoint"].partition("\n\n")
    other_text = other.proof["checkpoint"].partition("\n\n")[0]
    assert other_text != text
    forged = other.but(checkpoint=other_text + gap + signed)
    assert browser.told(forged) == {**OK, "signature": "signature_forged"}


def test_a_key_that_did_not_sign_fails_at_the_signature(browser: Verifier, case: Case) -> None:
    """Another key of the same name does not vouch."""
    other = replace(case, keys=(OTHER_KEY.verifier.text(),))
    assert browser.told(other) == {**OK, "signature": "signature_missing"}


def test_no_key_at_all_is_told(browser: Verifier, case: Case) -> None:
    """Without a key, nobody vouches for the checkpoint."""
    other = replace(case, keys=())
    assert browser.told(other) == {**OK, "signature": "signature_no_key"}


def test_one_of_two_known_keys_is_enough(browser: Verifier) -> None:
    """While keys are rotated, a checkpoint may bear the signature of either."""
    (case,) = trail(1)
    both = replace(case, keys=(OTHER_KEY.verifier.text(), KEY.verifier.text()))
    assert browser.told(both) == OK


@pytest.mark.parametrize(
    "tenant_id", ["acme", "a/b c", "王芳 & co", "it's (a) *tenant*!", "%41~_.-"]
)
def test_a_base_key_stands_for_any_tenant(browser: Verifier, tenant_id: str) -> None:
    """The key of the log as such is taken for the tenant's own, percent-encoded."""
    (case,) = trail(1, tenant_id=tenant_id)
    own = replace(case, keys=(KEY.for_tenant(tenant_id).verifier.text(),))
    assert [browser.told(each) for each in (case, own)] == [OK, OK]


def test_another_tenants_checkpoint_fails_at_the_checkpoint(browser: Verifier, case: Case) -> None:
    """One seed signs for all tenants: the checkpoint must be of the event's own log."""
    root = root_hash([leaf_hash(b"x")])
    note = signed_note(1, root, tenant_id="other")
    told = browser.told(case.but(checkpoint=note))
    assert (told["checkpoint"], told["signature"]) == ("checkpoint_other_log", "signature_missing")


def test_a_checkpoint_of_a_log_of_another_name_fails_at_the_signature(
    browser: Verifier, case: Case
) -> None:
    """A key speaks for the log that bears its name, even where the tenant is the same."""
    text = text_of(case.proof["checkpoint"]).replace("audit.example/", "elsewhere.example/")
    note = sign_note(text, [KEY.for_tenant("acme")])
    assert browser.told(case.but(checkpoint=note)) == {**OK, "signature": "signature_other_log"}


@pytest.mark.parametrize(
    "break_it",
    [
        lambda _: "",
        lambda note: note[:-1],
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.replace("\n", "\r\n"),
        lambda note: note.replace("\n13\n", "\n013\n"),
        lambda note: note.replace("\n13\n", "\n99999999999999999999\n"),
        lambda note: note.replace("\u2014", "-"),
        lambda note: note + "\u2014 a b\n",
        lambda note: note + "\u2014 a+b AAAAAAAA\n",
        lambda note: "\n" + note,
        lambda note: note.replace("\n\n", "\n\n\n"),
        lambda _: None,
        lambda note: note + "x" * 1_000_000 + "\n",
    ],
)
def test_what_is_no_checkpoint_fails_at_the_checkpoint(
    browser: Verifier, case: Case, break_it: Callable[[str], Any]
) -> None:
    """A malformed note is never read generously."""
    told = browser.told(case.but(checkpoint=break_it(case.proof["checkpoint"])))
    assert told["checkpoint"] in {"note_form", "checkpoint_form"}
    assert told["signature"] == "signature_no_note"


def test_an_erased_event_is_proved_by_its_leaf_hash(browser: Verifier, case: Case) -> None:
    """Without the body, the hash is taken as it is told; the path and the rest must hold."""
    erased = replace(case, body=None)
    (steps,) = browser.steps(erased)
    assert _all_hold(steps)
    assert steps[0]["code"] == "hash_erased"


def test_what_is_no_event_fails_at_the_hash(browser: Verifier, case: Case) -> None:
    """Bytes that are no JSON, or JSON that is no event, say nothing of an event."""
    bodies = [b"", b"\xff", b"null", b"[]", b"\xef\xbb\xbf" + (case.body or b"")]
    told = [browser.told(replace(case, body=body))["hash"] for body in bodies]
    assert set(told) <= {"hash_no_event", "hash_other_event"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "key_form"),
        ("audit.example/log", "key_form"),
        (KEY.text(), "key_private"),
        (KEY.verifier.text()[:-2], "key_form"),
        (KEY.verifier.text().replace("audit", "other"), "key_id_wrong"),
        (
            SigningKey.from_seed("w.example", b"\3" * 32, kind=KeyKind.WITNESS).verifier.text(),
            "key_witness",
        ),
    ],
    ids=["empty", "name", "private", "cut", "renamed", "witness"],
)
def test_what_is_no_key_of_a_log_is_refused(browser: Verifier, text: str, code: str) -> None:
    """Each mistake by its own name."""
    assert browser.of_key(text) == code


def test_a_weak_key_is_refused(browser: Verifier) -> None:
    """Anybody can sign for a key of small order."""
    name, public_key = "weak.example", (1).to_bytes(32, "little")
    typed = b"\x01" + public_key
    key_id = hashlib.sha256(name.encode() + b"\n" + typed).hexdigest()[:8]
    weak = f"{name}+{key_id}+{base64_of(typed)}"
    assert browser.of_key(weak) == "key_weak"


def test_this_browser_can_verify(browser: Verifier) -> None:
    """The self-test with a vector of RFC 8032 passes where Ed25519 is there."""
    found = browser.page.evaluate("import('/verify/keys.js').then(({ whyNot }) => whyNot())")
    assert found is None


def test_a_browser_without_ed25519_says_so(browser: Verifier) -> None:
    """It is told apart from a signature that does not hold."""
    found = browser.page.evaluate(
        """async () => {
            const { whyNot } = await import("/verify/keys.js");
            const own = crypto.subtle.importKey;
            const missing = new DOMException("", "NotSupportedError");
            crypto.subtle.importKey = () => Promise.reject(missing);
            try { return await whyNot(); } finally { crypto.subtle.importKey = own; }
        }"""
    )
    assert found == "no_ed25519"
