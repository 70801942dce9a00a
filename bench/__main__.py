"""`python -m bench`: measure, print the tables, write the JSON."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from bench.emitting import emit_cases
from bench.http import GROUP as HTTP
from bench.http import http_cases
from bench.inclusion import GROUP as PROOFS
from bench.inclusion import inclusion_cases
from bench.machine import describe_machine
from bench.measuring import Case, run_rounds
from bench.postgres import postgres_cases, running_server, settings_of
from bench.report import Report, print_report, ratios_of, targets_of, to_json
from bench.sequencing import GROUP as SEQUENCING
from bench.sequencing import WINDOW_GROUP as WINDOW
from bench.sequencing import sequencing_cases, window_cases
from bench.sqlite import sqlite_cases
from bench.trees import GROUP as TREES
from bench.trees import tree_cases
from tests.servers.postgres import Postgres

GROUPS: Final = ("postgres", "sqlite", "emit", TREES, PROOFS, SEQUENCING, WINDOW, HTTP)
_IN_STORES: Final = {"postgres", TREES, PROOFS, SEQUENCING, WINDOW, HTTP}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 0 whatever it measures, for a measurement is not a test."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.emits = 1, 0.1, 500
        options.events, options.leaves = 5_000, 20_000
        options.load_seconds, options.window_seconds = 0.5, 2.0
    report = _measure(options)
    print_report(report, Console(width=None if sys.stdout.isatty() else 110))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(to_json(report))
    Console(stderr=True).print(f"Every round, as JSON: {options.json}", highlight=False)
    return 0


def _measure(options: argparse.Namespace) -> Report:
    groups = options.only or GROUPS
    settings = None
    cases: list[Case] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(dir=options.directory)))
        machine = describe_machine(directory)
        server: Postgres | None = None
        if _IN_STORES.intersection(groups):
            server = stack.enter_context(running_server())
            settings = settings_of(server)
        if server is not None and "postgres" in groups:
            cases += postgres_cases(server, directory / "spools", options.seconds)
        if "sqlite" in groups:
            cases += sqlite_cases(directory, options.seconds)
        if "emit" in groups:
            cases += emit_cases(directory, options.emits)
        if TREES in groups:
            cases += tree_cases(directory, server, options.events)
        if PROOFS in groups:
            cases += inclusion_cases(directory, server, options.leaves)
        if SEQUENCING in groups:
            cases += sequencing_cases(directory, server, options.load_seconds)
        if WINDOW in groups:
            cases += window_cases(directory, server, options.window_seconds, options.load_seconds)
        if HTTP in groups:
            cases += http_cases(directory, server, options.seconds)
        status = stack.enter_context(Console(stderr=True).status("")) if _watched() else None

        def show(n: int, case: Case) -> None:
            if status:
                what = f"{case.group}, {case.name}, {case.tasks:,} tasks"
                status.update(f"round {n + 1} of {options.rounds}: {what}")

        results = asyncio.run(run_rounds(cases, options.rounds, show))
    ratios = ratios_of(results)
    return Report(
        machine=machine,
        postgres_settings=settings,
        run={
            "rounds": options.rounds,
            "seconds": options.seconds,
            "emits": options.emits,
            "events": options.events,
            "leaves": options.leaves,
            "load_seconds": options.load_seconds,
            "window_seconds": options.window_seconds,
            "quick": options.quick,
        },
        results=results,
        ratios=ratios,
        targets=targets_of(results, ratios),
    )


def _watched() -> bool:
    return sys.stderr.isatty()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure muniment.")
    parser.add_argument(
        "--only", action="append", choices=GROUPS, help="measure this; may be given again"
    )
    parser.add_argument("--rounds", type=_count, default=5, help="how often (5)")
    parser.add_argument(
        "--seconds", type=_positive, default=1.5, help="how long to keep calling a store (1.5)"
    )
    parser.add_argument("--emits", type=_count, default=10_000, help="calls of emit (10,000)")
    parser.add_argument(
        "--events", type=_count, default=200_000, help="events that trees grow by (200,000)"
    )
    parser.add_argument(
        "--leaves", type=_count, default=10_000_000, help="leaves to prove from (10,000,000)"
    )
    parser.add_argument(
        "--load-seconds", type=_positive, default=10.0, help="how long a load is offered (10)"
    )
    parser.add_argument(
        "--window-seconds", type=_positive, default=60.0, help="how long events are waited for (60)"
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("bench-results/latest.json"),
        metavar="FILE",
        help="where every round is written as JSON (bench-results/latest.json)",
    )
    parser.add_argument(
        "--directory", type=Path, help="where the SQLite files go, on the disk to be measured"
    )
    return parser


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _positive(text: str) -> float:
    if not (number := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
