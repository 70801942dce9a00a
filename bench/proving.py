"""What proofs are to reach, and the ratios that say something of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench import inclusion, sequencing, trees
from bench.measuring import Result, Round

RATIOS: Final = (
    (trees.GROUP, trees.GROWING, trees.HASHING, 1),
    (trees.GROUP, trees.VERIFYING, trees.HASHING, 1),
    *((trees.GROUP, trees.integrating(s), trees.appending(s), 1) for s in trees.STORES),
    *(
        (
            sequencing.GROUP,
            case(store, sequenced=True),
            case(store, sequenced=False),
            tasks,
        )
        for store in trees.STORES
        for case, tasks in ((sequencing.at_most, sequencing.TASKS), (sequencing.at_half, 1))
    ),
)
"""(group, faster, slower, tasks)."""

Told = tuple[str, str, bool]
"""(target, measured, met)."""


def targets_of(results: Sequence[Result]) -> Iterator[Told]:
    """The targets of what was measured; the medians decide."""
    by_name = {(result.group, result.name): result.rounds for result in results}
    for name, wanted, least in (
        (trees.GROWING, "trees grow by at least 100,000 events/s, bodies in memory", 100_000),
        (trees.VERIFYING, "verify of evidence: at least 250,000 events/s", 250_000),
    ):
        rounds = by_name.get((trees.GROUP, name))
        if rounds:
            rate = _median(rounds, lambda r: r.rate)
            yield wanted, f"{rate:,.0f} events/s", rate >= least
    for (group, name), rounds in by_name.items():
        if group == inclusion.GROUP:
            yield from _of_a_proof(name, rounds)
    for store in trees.STORES:
        unsequenced, sequenced = (
            by_name.get((sequencing.GROUP, sequencing.at_half(store, sequenced=each)))
            for each in (False, True)
        )
        if unsequenced and sequenced:
            yield _of_half(store, unsequenced, sequenced)


def _of_a_proof(name: str, rounds: Sequence[Round]) -> Iterator[Told]:
    (measured,) = rounds
    p95 = (measured.p95_microseconds or 0.0) / 1e3
    yield f"{name}: at most 5 ms, by p95", f"{p95:.2f} ms", p95 <= 5
    if measured.proof_bytes:
        with_checkpoint, proof = measured.proof_bytes
        yield f"{name}: at most 1.2 KB of index and hashes", f"{proof:,} bytes", proof <= 1_200
        text = f"{name}: at most 1.2 KB with the signed checkpoint"
        yield text, f"{with_checkpoint:,} bytes", with_checkpoint <= 1_200


def _of_half(store: str, unsequenced: Sequence[Round], sequenced: Sequence[Round]) -> Told:
    pairs = list(zip(unsequenced, sequenced, strict=True))
    rate = statistics.median(1 - b.rate / a.rate for a, b in pairs)
    p50 = statistics.median(b.p50_microseconds / a.p50_microseconds - 1 for a, b in pairs)
    p99 = statistics.median(b.p99_microseconds / a.p99_microseconds - 1 for a, b in pairs)
    return (
        f"{store}, half the load: sequencing costs at most 15 % of events/s and of the median call",
        f"{rate:.1%} of events/s, {p50:+.0%} by p50, {p99:+.0%} by p99",
        rate <= 0.15 and p50 <= 0.15,
    )


def _median(rounds: Sequence[Round], number: Callable[[Round], float]) -> float:
    return statistics.median(number(each) for each in rounds)
