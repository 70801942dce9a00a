"""SIGKILL in the middle of recording."""

from __future__ import annotations

from random import Random

import pytest

from muniment.stores import open_store
from tests.faults.killing import Oracle, acknowledged_until_killed

_ROUNDS = 20
_LEAST = 1000


@pytest.mark.timeout(600)
async def test_what_was_acknowledged_survives_sigkill(log_url: str) -> None:
    """Every event whose `record` had returned is there, once, each time a process is killed.

    Twenty processes on each store, killed at a random moment under the load of 16 tasks, after at
    least a thousand acknowledgements, which are kept here and not in the process.
    """
    random = Random(20)  # noqa: S311 - moments, not secrets
    store = open_store(log_url)
    await store.open()
    oracle = Oracle(store)
    for n in range(_ROUNDS):
        acknowledged = acknowledged_until_killed(log_url, f"r{n}", least=_LEAST, random=random)
        assert len(acknowledged) >= _LEAST
        await oracle.check(acknowledged)
    await store.close()
