"""A served log under full load, with one request in twenty that is bad."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from muniment import AuditLog
from muniment.stores import open_store
from tests.faults.http_clients import TENANT, Clients
from tests.faults.oracle import Verdict, read_on
from tests.faults.tally import Rounds, Tally
from tests.scripted import until
from tests.servers.muniment import Served, get

pytestmark = pytest.mark.timeout(300)

_CLIENTS = 32
_KINDS = 12
_PATIENCE = 120
_MOST_MEMORY = 400 * 10**6


def _workers(served: Served) -> list[int]:
    children = Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text()
    return [
        pid
        for pid in map(int, children.split())
        if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _is_enough(clients: Clients, seconds: int) -> bool:
    """Whether there was load, and trouble of each kind."""
    return (
        len(clients.acknowledged) > 50 * seconds
        and clients.misbehaved >= _KINDS
        and {422, 429} <= clients.answers.keys()
    )


async def _stored(url: str) -> Counter[str]:
    store = open_store(url)
    await store.open()
    found = Counter(
        [
            item.stored.event_id
            async for item in read_on(store, None)
            if item.stored.tenant_id == TENANT
        ]
    )
    await store.close()
    return found


async def test_good_requests_land_whatever_the_bad_ones_do(
    log_url: str, tmp_path: Path, rounds: Rounds, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is stored once, nothing else is, and the same worker answers on."""
    seconds = rounds(3, 60)
    with Served(
        log_url,
        MUNIMENT_SPOOL_DIR=str(tmp_path / "spool"),
        MUNIMENT_HTTP_MAX_REQUESTS="16",
        MUNIMENT_HTTP_MAX_BATCHES="4",
    ) as served:
        before = _workers(served)
        clients = Clients(served, seed=seconds)
        async with asyncio.timeout(seconds + _PATIENCE):
            await clients.run(_CLIENTS, seconds, lambda: _is_enough(clients, seconds))
        health, peak = get(f"{served.url}/healthz")[0], max(map(_peak, _workers(served)))
        after = _workers(served)
        ended = served.stop()
    monkeypatch.setenv("MUNIMENT_SPOOL_DIR", str(tmp_path / "spool"))
    async with AuditLog.open(log_url) as following:  # the store may have been late
        await until(lambda: not following.snapshot().is_spooling)  # type: ignore[union-attr]
    stored = await _stored(log_url)

    acknowledged = clients.acknowledged
    told = ", ".join(f"{n} x {status}" for status, n in sorted(clients.answers.items()))
    tally.note(
        f"service under load for {seconds} s: {len(acknowledged):,} acknowledged, {told}; "
        f"peak {peak / 10**6:.0f} MB"
    )
    tally.add(
        "service under load, 5 % bad requests",
        log_url,
        Verdict(
            acknowledged=len(acknowledged),
            missing=tuple(acknowledged - stored.keys()),
            doubled=tuple(event_id for event_id, n in stored.items() if n > 1),
            stray=tuple(stored.keys() - clients.submitted),
        ),
    )
    assert (before, health, ended) == (after, 200, 0)
    assert peak <= _MOST_MEMORY
