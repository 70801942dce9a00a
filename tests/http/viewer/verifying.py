"""The viewer's verification in a real browser, and cases for it that our own Python makes."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final

import msgspec
from playwright.sync_api import Page, Route

from muniment.canonical import encode
from muniment.checkpoint import Checkpoint, sign_checkpoint
from muniment.event import Event
from muniment.http.api.wire import Proof
from muniment.keys import SigningKey
from muniment.merkle import inclusion_proof, leaf_hash, root_hash, roots_of_leaves
from muniment.proofs import InclusionProof
from tests.servers.chromium import chromium

KEY: Final = SigningKey.from_seed("audit.example/log", b"\1" * 32)
OTHER_KEY: Final = SigningKey.from_seed("audit.example/log", b"\2" * 32)
_ORIGIN: Final = "http://localhost"
_VERIFY_ALL: Final = """async (cases) => {
    const { verifyEvent } = await import("/verify/event.js");
    const { parseKeys } = await import("/verify/keys.js");
    const { fromBase64 } = await import("/verify/bytes.js");
    return Promise.all(cases.map(async ({ event_id, tenant_id, body, proof, keys }) => verifyEvent({
        eventId: event_id,
        tenantId: tenant_id,
        body: body === null ? null : fromBase64(body),
        proof,
        keys: await parseKeys(keys.join(" ")),
    })));
}"""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and what a service says of it."""

    event_id: str
    tenant_id: str
    body: bytes | None
    proof: dict[str, Any]
    keys: tuple[str, ...] = (KEY.verifier.text(),)

    def but(self, **proof: Any) -> Case:
        """The same, with other members of the proof."""
        return msgspec.structs.replace(self, proof={**self.proof, **proof})


def trail(size: int, *, tenant_id: str = "acme", keys: Sequence[SigningKey] = (KEY,)) -> list[Case]:
    """A case of every leaf of a tree of that size, each as it should be."""
    events = [
        Event(action="login", tenant_id=tenant_id, details={"n": n, "who": "Ελένη 王芳"})
        for n in range(size)
    ]
    bodies = [encode(event) for event in events]
    leaves = [leaf_hash(body) for body in bodies]
    root = root_hash(leaves)
    note = signed_note(size, root, tenant_id=tenant_id, keys=keys)
    cases = []
    for index, (event, body) in enumerate(zip(events, bodies, strict=True)):
        hashes = tuple(inclusion_proof(index, size, roots_of_leaves(leaves)))
        proof = Proof(
            event_id=event.event_id,
            tenant_id=tenant_id,
            leaf_index=index,
            leaf_hash=leaves[index],
            origin=keys[0].for_tenant(tenant_id).name,
            tree_size=size,
            root_hash=root,
            hashes=hashes,
            checkpoint=note,
            text=InclusionProof(leaf_index=index, hashes=hashes, checkpoint=note).text(),
        )
        cases.append(
            Case(
                event_id=event.event_id,
                tenant_id=tenant_id,
                body=body,
                proof=msgspec.to_builtins(proof),
            )
        )
    return cases


def signed_note(
    size: int, root: bytes, *, tenant_id: str = "acme", keys: Sequence[SigningKey] = (KEY,)
) -> str:
    """A checkpoint that says so, signed."""
    own = [key.for_tenant(tenant_id) for key in keys]
    checkpoint = Checkpoint(origin=own[0].name, tree_size=size, root_hash=root)
    return sign_checkpoint(checkpoint, own)


def base64_of(data: bytes) -> str:
    """As JSON has it."""
    return base64.b64encode(data).decode()


class Verifier:
    """A page of Chromium that has the viewer's modules at hand."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def steps(self, *cases: Case) -> list[list[dict[str, Any]]]:
        """What the steps come to, for each case."""
        found: list[list[dict[str, Any]]] = self.page.evaluate(
            _VERIFY_ALL, [msgspec.to_builtins(case) for case in cases]
        )
        return found

    def told(self, case: Case) -> dict[str, str]:
        """What each step is told as; "ok" if it holds."""
        (steps,) = self.steps(case)
        return {step["step"]: "ok" if step["result"] == "holds" else step["code"] for step in steps}

    def of_key(self, text: str) -> str:
        """The code that a text is refused with as a key; else the key's text, parsed and made."""
        said: str = self.page.evaluate(
            """async (text) => {
                const { parseKey } = await import("/verify/keys.js");
                return parseKey(text).then((key) => key.text, (error) => error.code);
            }""",
            text,
        )
        return said


@contextmanager
def verifier() -> Iterator[Verifier]:
    """Chromium, with the modules as they are installed."""
    with chromium() as browser:
        page = browser.new_page()
        page.route(f"{_ORIGIN}/**", _serve)
        page.goto(f"{_ORIGIN}/")
        yield Verifier(page)


def _serve(route: Route) -> None:
    path = route.request.url.removeprefix(f"{_ORIGIN}/")
    if not path:
        route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")
        return
    file = resources.files("muniment.http.viewer") / "static" / path
    route.fulfill(body=file.read_bytes(), content_type="text/javascript")
