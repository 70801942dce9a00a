"""Cosignatures of a witness (c2sp.org/tlog-witness, the client's side)."""

from __future__ import annotations

from typing import Final

from muniment.anchors.add_checkpoint import SIZE_TYPE, parse_size, request_body
from muniment.anchors.base import DEFAULT_TIMEOUT, Anchor, Prove
from muniment.anchors.http import HttpClient, Reply, said_in
from muniment.checkpoint import MAX_SIGNATURES, add_signatures, checkpoint_in, cosignatures
from muniment.errors import AnchorError, InvalidKey, VerificationError
from muniment.keys import KeyKind, VerifyingKey
from muniment.stores.trees import Published

_ATTEMPTS: Final = 3
_MOST_SIZES: Final = 100_000
_REMEDIES: Final = {
    400: "it does not understand us; is the URL that of a C2SP witness?",
    403: "no key that it trusts signed the checkpoint; give it our public key",
    404: "it does not know this log, or the URL is wrong; give it our public key",
    422: "what it saw before is not the beginning of this tree: a fork, or history was altered",
}


class WitnessAnchor(Anchor):
    """Has a witness cosign each checkpoint: it does so only if all it saw before is in the tree.

    Which size the witness has is remembered, and learnt from its refusal where it isn't known.
    `key` is the witness's public key: a line that it did not sign is never passed on.
    """

    def __init__(
        self, name: str, url: str, key: VerifyingKey, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        super().__init__(name, timeout=timeout)
        if key.kind is not KeyKind.WITNESS:
            raise InvalidKey(f"{key.name} is a log's key; a witness's has the type 0x04")
        self._key = key
        self._client = HttpClient(name, url)
        self._sizes: dict[str, int] = {}

    async def _put(self, checkpoint: Published, prove: Prove) -> str | None:
        if cosignatures(checkpoint.note, [self._key]):
            return None
        origin = checkpoint_in(checkpoint.note).origin
        # Most likely it has the one before, which we put to it before a restart.
        old_size = self._sizes.get(origin, checkpoint.previous_size)
        for _ in range(_ATTEMPTS):
            reply = await self._ask(checkpoint, old_size, prove)
            if reply.code == 200:
                lines = self._own_lines(reply, checkpoint.note)
                self._remember(origin, checkpoint.tree_size)
                return lines
            if reply.code != 409:
                remedy = _REMEDIES.get(reply.code, "that is no answer of a witness")
                raise AnchorError(
                    f"{self.name}: refuses {checkpoint.tree_size} leaves with {reply.code}"
                    f"{said_in(reply)}; {remedy}"
                )
            old_size = self._size_in(reply)
            self._remember(origin, old_size)
            if old_size > checkpoint.tree_size:
                raise AnchorError(
                    f"{self.name}: has cosigned {old_size} leaves of {origin}, more than the "
                    f"{checkpoint.tree_size} that we have: the log was rolled back, unless a newer "
                    "checkpoint was published meanwhile"
                )
        raise AnchorError(f"{self.name}: others put newer checkpoints to it all the time")

    async def _ask(self, checkpoint: Published, old_size: int, prove: Prove) -> Reply:
        proof = []
        if 0 < old_size < checkpoint.tree_size:
            proof = list(await prove(old_size, checkpoint.tree_size))
        body = request_body(min(old_size, checkpoint.tree_size), proof, checkpoint.note)
        return await self._client.ask("POST", {}, body=body)

    def _size_in(self, reply: Reply) -> int:
        size = parse_size(reply.body.removesuffix(b"\n"))
        if reply.media_type != SIZE_TYPE or size is None:
            raise AnchorError(f"{self.name}: refuses with 409, but does not say which size it has")
        return size

    def _own_lines(self, reply: Reply, note: str) -> str:
        """The lines of an answer that the witness's key signed; the others are not for us."""
        try:
            lines = [f"{line}\n" for line in reply.body.decode().split("\n")]
        except UnicodeDecodeError:
            lines = []
        own = [line for line in lines[:MAX_SIGNATURES] if self._signed(line, note)]
        if not own:
            raise AnchorError(
                f"{self.name}: its cosignature is not by {self._key.text()}; is that its key?"
            )
        return own[0]

    def _signed(self, line: str, note: str) -> bool:
        try:
            return bool(cosignatures(add_signatures(note, [line]), [self._key]))
        except VerificationError:
            return False

    def _remember(self, origin: str, tree_size: int) -> None:
        if len(self._sizes) >= _MOST_SIZES:
            self._sizes.clear()
        self._sizes[origin] = tree_size

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
