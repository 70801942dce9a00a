"""Checkpoints that are put to a witness."""

from __future__ import annotations

from muniment.anchors.add_checkpoint import request_body
from muniment.witness import Answer, Witness
from tests.proofs.trails import Trail

NOW = 1_700_000_000


def body_of(trail: Trail, old_size: int, size: int) -> bytes:
    """The body of a request to cosign a trail's checkpoint of that size."""
    return request_body(old_size, trail.proof(old_size, size), trail.checkpoint(size).note)


def submit(witness: Witness, trail: Trail, old_size: int, size: int) -> Answer:
    """What the witness answers to it."""
    return witness.add_checkpoint(body_of(trail, old_size, size))
