"""What was measured, as tables for people and as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import asdict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench import emitting, http, inclusion, postgres, proving, sequencing, sqlite, trees
from bench.machine import Machine
from bench.measuring import Result, Round, Spread

_BUSY: Final = 4
_TITLES: Final = {
    "postgres": "PostgreSQL",
    "sqlite": "SQLite",
    "emit": "A call's cost to its caller",
    trees.GROUP: "Trees and evidence, in one process",
    inclusion.GROUP: "Inclusion proofs",
    sequencing.GROUP: "Recording while a sequencer signs every second",
    sequencing.WINDOW_GROUP: "From record's return to a published checkpoint",
    http.GROUP: "Over HTTP, one worker",
}


class Ratio(msgspec.Struct, frozen=True):
    """How many times as fast one thing is as another, round by round."""

    faster: str
    slower: str
    tasks: int
    times: Spread


class Target(msgspec.Struct, frozen=True):
    """What we want to reach, and what was measured."""

    target: str
    measured: str
    met: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the bench."""

    machine: Machine
    postgres_settings: dict[str, str] | None
    run: dict[str, float | bool]
    results: list[Result]
    ratios: list[Ratio]
    targets: list[Target]


def ratios_of(results: Sequence[Result]) -> list[Ratio]:
    """The ratios that say something, of what was measured."""
    pairs = [
        *(("postgres", postgres.RECORD, postgres.SEED, tasks) for tasks in postgres.TASKS),
        ("postgres", postgres.APPEND, postgres.COPY, 1),
        ("emit", emitting.EMIT, emitting.STRUCTLOG, 1),
        ("emit", emitting.EMIT_BUSY, emitting.STRUCTLOG, 1),
        ("emit", emitting.EMIT, emitting.LOGURU, 1),
        *proving.RATIOS,
    ]
    ratios = []
    for group, faster, slower, tasks in pairs:
        one, other = _find(results, group, faster, tasks), _find(results, group, slower, tasks)
        if one and other:
            times = [a.rate / b.rate for a, b in zip(one.rounds, other.rounds, strict=True)]
            ratios.append(Ratio(faster, slower, tasks, Spread.of(times)))
    return ratios


def targets_of(results: Sequence[Result], ratios: Sequence[Ratio]) -> list[Target]:
    """The targets of what was measured; the medians decide."""
    targets = []

    def add(text: str, measured: float | None, least: float, unit: str) -> None:
        if measured is not None:
            targets.append(
                Target(text, f"{measured:,.{2 if least < 100 else 0}f}{unit}", measured >= least)
            )

    times = {(r.faster, r.slower, r.tasks): r.times.median for r in ratios}
    seed = [_rate(results, "postgres", postgres.SEED, tasks) for tasks in postgres.TASKS]
    best = max((rate for rate in seed if rate is not None), default=None)
    thousand = _rate(results, "postgres", postgres.RECORD, 1_000)
    add(
        "PostgreSQL, 16 tasks: record at least 8 times as fast as the seed's pattern",
        times.get((postgres.RECORD, postgres.SEED, 16)),
        8,
        " times",
    )
    add(
        "PostgreSQL, 1,000 tasks: record at least 15 times the seed's pattern at its best",
        thousand / best if thousand and best else None,
        15,
        " times",
    )
    add(
        "PostgreSQL: append of sealed events at least 0.7 times raw COPY into the same table",
        times.get((postgres.APPEND, postgres.COPY, 1)),
        0.7,
        " times",
    )
    add(
        "SQLite, 16 tasks: record at least 15,000 events/s",
        _rate(results, "sqlite", sqlite.RECORD, 16),
        15_000,
        " events/s",
    )
    add(
        "SQLite: record_many at least 80,000 events/s",
        _rate(results, "sqlite", sqlite.RECORD_MANY, 1),
        80_000,
        " events/s",
    )
    emit = _find(results, "emit", emitting.EMIT, 1)
    if emit:
        median = Spread.of([r.p50_microseconds for r in emit.rounds]).median
        wanted = "emit: at most 5 microseconds for its caller, by the median"
        targets.append(Target(wanted, f"{median:.1f}", median <= 5))
    for wanted, other, least in (
        ("emit cheaper for its caller than structlog", emitting.STRUCTLOG, 1.0),
        ("emit at most a third of loguru's cost", emitting.LOGURU, 3.0),
    ):
        gain = times.get((emitting.EMIT, other, 1))
        if gain is not None:
            targets.append(Target(wanted, f"{1 / gain:.2f} of its time", gain >= least))
    told = (*proving.targets_of(results), *http.targets_of(results))
    return targets + [Target(text, measured, met) for text, measured, met in told]


def _rate(results: Sequence[Result], group: str, name: str, tasks: int) -> float | None:
    result = _find(results, group, name, tasks)
    return Spread.of([r.rate for r in result.rounds]).median if result else None


def _find(results: Sequence[Result], group: str, name: str, tasks: int) -> Result | None:
    wanted = (group, name, tasks)
    return next((r for r in results if (r.group, r.name, r.tasks) == wanted), None)


def to_json(report: Report) -> bytes:
    """The report as JSON, with every round."""
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def print_report(report: Report, console: Console) -> None:
    """Print the tables, the machine, and the targets."""
    for title, facts in (("Machine", asdict(report.machine)), ("Server", report.postgres_settings)):
        if facts:
            told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
            console.print(f"{title}: {told}", highlight=False, soft_wrap=True)
    for group in dict.fromkeys(result.group for result in report.results):
        results = [result for result in report.results if result.group == group]
        console.print(_TABLES.get(group, _rate_table)(group, results))
    if report.ratios:
        console.print(_ratio_table(report.ratios))
    if report.run["quick"]:
        console.print("A quick run: it shows that the bench works, and no more.")
    if report.machine.load_before > report.machine.cores / _BUSY:
        console.print("The machine was busy with something else: all rates are too low.")
    for target in report.targets:
        met = "met" if target.met else "not met"
        console.print(f"{target.target}: {target.measured}, {met}", highlight=False, soft_wrap=True)


def _rate_table(group: str, results: Sequence[Result]) -> Table:
    table = _table(
        _TITLES[group], "tasks", "events/s", "lowest, highest", "with index", "p50 ms", "p99 ms"
    )
    for result in results:
        rate = Spread.of([r.rate for r in result.rounds])
        whole = [r.rate_with_index for r in result.rounds if r.rate_with_index is not None]
        table.add_row(
            result.name,
            f"{result.tasks:,}",
            f"{rate.median:,.0f}",
            f"{rate.lowest:,.0f} {rate.highest:,.0f}",
            f"{Spread.of(whole).median:,.0f}" if whole else "",
            _median(result.rounds, lambda r: r.p50_microseconds / 1e3),
            _median(result.rounds, lambda r: r.p99_microseconds / 1e3),
        )
    return table


def _cost_table(group: str, results: Sequence[Result]) -> Table:
    table = _table(_TITLES[group], "mean us", "lowest, highest", "p50 us", "p99 us")
    for result in results:
        mean = Spread.of([r.microseconds for r in result.rounds])
        table.add_row(
            result.name,
            f"{mean.median:.1f}",
            f"{mean.lowest:.1f} {mean.highest:.1f}",
            _median(result.rounds, lambda r: r.p50_microseconds),
            _median(result.rounds, lambda r: r.p99_microseconds),
        )
    return table


def _proof_table(group: str, results: Sequence[Result]) -> Table:
    table = _table(
        _TITLES[group], "p50 ms", "p95 ms", "longest", "text", "with checkpoint", "hashes"
    )
    for result in results:
        (measured,) = result.rounds
        table.add_row(
            result.name,
            _milliseconds(measured.p50_microseconds),
            _milliseconds(measured.p95_microseconds),
            _milliseconds(measured.longest_microseconds),
            *(f"{size:,}" if size else "" for size in reversed(measured.proof_bytes or (0, 0))),
            f"{measured.hash_bytes:,}" if measured.hash_bytes else "",
        )
    return table


def _load_table(group: str, results: Sequence[Result]) -> Table:
    table = _table(
        _TITLES[group], "tasks", "events/s", "lowest, highest", "p50 ms", "p99 ms", "leafless"
    )
    for result in results:
        rate = Spread.of([r.rate for r in result.rounds])
        behind = [r.without_leaf for r in result.rounds if r.without_leaf is not None]
        table.add_row(
            result.name,
            f"{result.tasks:,}",
            f"{rate.median:,.0f}",
            f"{rate.lowest:,.0f} {rate.highest:,.0f}",
            _median(result.rounds, lambda r: r.p50_microseconds / 1e3),
            _median(result.rounds, lambda r: r.p99_microseconds / 1e3),
            f"{Spread.of(behind).median:,.0f}" if behind else "",
        )
    return table


def _window_table(group: str, results: Sequence[Result]) -> Table:
    table = _table(_TITLES[group], "events", "events/s", "p50 ms", "p99 ms", "longest ms")
    for result in results:
        (measured,) = result.rounds
        table.add_row(
            result.name,
            f"{measured.events:,}",
            f"{measured.rate:,.0f}",
            _milliseconds(measured.p50_microseconds),
            _milliseconds(measured.p99_microseconds),
            _milliseconds(measured.longest_microseconds),
        )
    return table


_TABLES: Final[dict[str, Callable[[str, Sequence[Result]], Table]]] = {
    "emit": _cost_table,
    inclusion.GROUP: _proof_table,
    sequencing.GROUP: _load_table,
    sequencing.WINDOW_GROUP: _window_table,
}


def _milliseconds(microseconds: float | None) -> str:
    return "" if microseconds is None else f"{microseconds / 1e3:,.2f}"


def _ratio_table(ratios: Sequence[Ratio]) -> Table:
    table = _table("Within each round", "tasks", "times as fast", "lowest, highest")
    for ratio in ratios:
        times = ratio.times
        table.add_row(
            f"{ratio.faster} / {ratio.slower}",
            f"{ratio.tasks:,}",
            f"{times.median:.2f}",
            f"{times.lowest:.2f} {times.highest:.2f}",
        )
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _median(rounds: Sequence[Round], number: Callable[[Round], float]) -> str:
    return f"{Spread.of([number(r) for r in rounds]).median:,.2f}"
