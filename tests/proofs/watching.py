"""Looking after a log once."""

from __future__ import annotations

from collections.abc import Sequence

from muniment.anchors import CheckpointDirectory
from muniment.keys import VerifyingKey
from muniment.remembering import Finding, watch_once
from muniment.stores import open_store
from tests.proofs.trails import LOG_KEY


async def look(
    url: str,
    memory: CheckpointDirectory,
    tenant_ids: Sequence[str] | None = None,
    *,
    keys: Sequence[VerifyingKey] = (LOG_KEY.verifier,),
    anchors: Sequence[CheckpointDirectory] = (),
) -> list[Finding]:
    """What a watcher finds that knows the log's key."""
    store = open_store(url)
    await store.open()
    try:
        return await watch_once(store.trees, memory, keys, tenant_ids, anchors=anchors)
    finally:
        await store.close()


def kinds(findings: Sequence[Finding]) -> list[tuple[str, str, int | None, int | None]]:
    """The tenant, the kind and both sizes of each."""
    return [(f.tenant_id, f.kind, f.remembered_size, f.live_size) for f in findings]
