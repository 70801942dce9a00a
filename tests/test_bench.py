from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TextIO

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import emitting, http, inclusion, postgres, sequencing, sqlite, trees
from bench.__main__ import main
from bench.emitting import check_logger
from bench.measuring import (
    Case,
    Result,
    Round,
    Timing,
    WorkMissing,
    keep_calling,
    percentile,
    round_of,
    run_rounds,
)
from bench.pages import Pages
from bench.report import Report, ratios_of, targets_of
from bench.seed import seed_writer
from bench.trail import RARE, SOUGHT
from bench.workload import ACTION, DETAILS, Happening, fields_of, happenings, plain_fields_of
from muniment.canonical import canonical_json
from muniment.sealing import Sealer
from tests.servers.postgres import URL_VARIABLE, Postgres

# Two thousand calls of the seed's pattern take their time on a busy machine.
pytestmark = pytest.mark.timeout(600)

_ROOT = Path(__file__).parent.parent
_DATABASES = "SELECT datname FROM pg_database ORDER BY datname"
_NAMES = {sought.name for sought in SOUGHT}
_EVERY_CASE = {
    *(("postgres", name, n) for n in (1, 16, 1000) for name in (postgres.SEED, postgres.RECORD)),
    ("postgres", postgres.RECORD_MANY, postgres.LISTS_AT_ONCE),
    ("postgres", postgres.COPY, 1),
    ("postgres", postgres.APPEND, 1),
    *(("sqlite", name, n) for name, n in ((sqlite.RECORD, 1), (sqlite.RECORD, 16))),
    ("sqlite", sqlite.RECORD_MANY, 1),
    ("emit", emitting.EMIT, 1),
    ("emit", emitting.EMIT_BUSY, 1),
    ("emit", emitting.STRUCTLOG, 1),
    ("emit", emitting.LOGURU, 1),
    *((trees.GROUP, name, 1) for name in (trees.HASHING, trees.GROWING, trees.VERIFYING)),
    *(
        case
        for store in trees.STORES
        for case in (
            (trees.GROUP, trees.appending(store), 1),
            (trees.GROUP, trees.integrating(store), 1),
            (inclusion.GROUP, inclusion.proving(store, 20_000), 1),
            (inclusion.GROUP, inclusion.proving_first(store, 20_000), 1),
            (sequencing.GROUP, sequencing.at_most(store, sequenced=False), sequencing.TASKS),
            (sequencing.GROUP, sequencing.at_most(store, sequenced=True), sequencing.TASKS),
            (sequencing.GROUP, sequencing.at_half(store, sequenced=False), 1),
            (sequencing.GROUP, sequencing.at_half(store, sequenced=True), 1),
            (sequencing.WINDOW_GROUP, sequencing.waiting(store), 1),
            (http.GROUP, http.batches(store), http.AT_ONCE),
            (http.GROUP, http.singles(store), http.CONNECTIONS),
        )
    ),
}


class QuickRun(msgspec.Struct):
    """What `python -m bench --quick` left behind."""

    code: int
    stdout: str
    stderr: str
    report: Report
    databases_added: set[str]


@pytest.fixture(scope="module")
def quick_run(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> QuickRun:
    """A quick run of the whole bench, in a process of its own."""
    file = tmp_path_factory.mktemp("bench") / "results" / "quick.json"
    before = postgres_server.psql(_DATABASES).stdout.split()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bench", "--quick", "--json", file],
        cwd=_ROOT,
        env={**os.environ, URL_VARIABLE: postgres_server.url()},
        capture_output=True,
        text=True,
        check=False,
    )
    after = postgres_server.psql(_DATABASES).stdout.split()
    assert file.exists(), done.stderr
    report = msgspec.json.decode(file.read_bytes(), type=Report)
    return QuickRun(done.returncode, done.stdout, done.stderr, report, set(after) - set(before))


def test_one_command_measures_every_case(quick_run: QuickRun) -> None:
    """Each store, each number of tasks and each logger has its rounds in the JSON."""
    measured = {(r.group, r.name, r.tasks) for r in quick_run.report.results if len(r.rounds) == 1}
    assert measured == _EVERY_CASE


def test_every_number_is_of_work_that_was_done(quick_run: QuickRun) -> None:
    """What was timed was counted in the tables afterwards; only loggers write to nowhere."""
    uncounted = {r.name for r in quick_run.report.results if r.rounds[0].found is None}
    rounds = [r.rounds[0] for r in quick_run.report.results if r.rounds[0].found is not None]
    assert uncounted == set(emitting.LOGGERS)
    assert all(0 < r.events <= (r.found or 0) for r in rounds)


def test_every_number_is_a_possible_one(quick_run: QuickRun) -> None:
    """Times are above zero, and the median call is no slower than the slow ones."""
    rounds = [r.rounds[0] for r in quick_run.report.results]
    assert all(r.seconds > 0 and 0 < r.p50_microseconds <= r.p99_microseconds for r in rounds)


def test_a_run_says_what_its_numbers_depend_on(quick_run: QuickRun) -> None:
    """Cores, Python, the server's version and that it was durable stand in the JSON."""
    machine, settings = quick_run.report.machine, quick_run.report.postgres_settings or {}
    assert (machine.cores, machine.python) == (os.cpu_count(), platform.python_version())
    assert settings["server_version"]
    assert (settings["fsync"], settings["synchronous_commit"]) == ("on", "on")


def test_targets_met_or_not_are_no_failure(quick_run: QuickRun) -> None:
    """All targets are told to people, and the run ends well whatever came out."""
    told = [target.target in quick_run.stdout for target in quick_run.report.targets]
    assert (quick_run.code, told) == (0, [True] * 23)


def test_the_server_is_left_as_it_was_found(quick_run: QuickRun) -> None:
    """The bench drops the databases that it made."""
    assert quick_run.databases_added == set()


def test_a_time_without_its_work_is_refused() -> None:
    """If one event of those timed and warmed up is missing, there is no number."""
    timing = Timing(events=10, seconds=1.0, call_nanoseconds=[1] * 10)
    assert round_of(timing, warm_up=3, found=13).events == 10
    with pytest.raises(WorkMissing, match="13 events were recorded, and 12 are there"):
        round_of(timing, warm_up=3, found=12)


async def test_every_task_calls_at_the_same_time() -> None:
    """With 50 tasks, 50 calls are under way at once; each returns how much it did."""
    everybody = asyncio.Barrier(50)

    async def call() -> int:
        await everybody.wait()
        return 2

    timing = await keep_calling(call, tasks=50, seconds=0)
    assert (timing.events, len(timing.call_nanoseconds)) == (100, 50)


async def test_cases_take_turns() -> None:
    """A round measures every case once, so that a disturbance hits neighbours."""
    order: list[str] = []

    def case(name: str) -> Case:
        async def measure() -> Round:
            order.append(name)
            return _round(1.0)

        return Case(group="g", name=name, tasks=1, measure=measure)

    results = await run_rounds([case("a"), case("b")], 2, lambda _, __: None)
    assert order == ["a", "b", "a", "b"]
    assert [len(result.rounds) for result in results] == [2, 2]


async def test_a_case_may_be_measured_once() -> None:
    """What takes a minute by itself is left out of all rounds but the first."""

    async def measure() -> Round:
        return _round(1.0)

    cases = [
        Case(group="g", name=name, tasks=1, measure=measure, once=once)
        for name, once in (("a", True), ("b", False))
    ]
    results = await run_rounds(cases, 3, lambda _, __: None)
    assert [len(result.rounds) for result in results] == [1, 3]


async def test_a_load_is_offered_whatever_becomes_of_it() -> None:
    """Calls that are due are made though none before has returned, and timed from then on."""
    everybody = asyncio.Barrier(20)
    timing = await sequencing.offer(everybody.wait, rate=2_000, seconds=0.01)
    assert (timing.events, len(timing.call_nanoseconds)) == (20, 20)
    assert max(timing.call_nanoseconds) >= 9_000_000


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_bounds_its_share_of_the_numbers(numbers: list[int], percent: int) -> None:
    """It is the smallest of the numbers that at least that share doesn't exceed."""
    enough = ceil(len(numbers) * percent / 100)
    bounds = [n for n in numbers if sum(m <= n for m in numbers) >= enough]
    assert percentile(numbers, percent) == min(bounds)


def test_ratios_are_taken_within_each_round() -> None:
    """Two rounds of 8 and 4 times the speed are 6 times in the middle, whatever the machine did."""
    results = [
        _result("postgres", postgres.SEED, 16, [100.0, 1000.0]),
        _result("postgres", postgres.RECORD, 16, [800.0, 4000.0]),
    ]
    (ratio,) = ratios_of(results)
    assert (ratio.times.median, ratio.times.lowest, ratio.times.highest) == (6.0, 4.0, 8.0)


@pytest.mark.parametrize(("rate", "met"), [(800.0, True), (799.0, False)])
def test_a_target_is_met_from_its_number_on(rate: float, met: bool) -> None:  # noqa: FBT001 - a parameter
    """Eight times the seed's pattern is enough, and anything below it is not."""
    results = [
        _result("postgres", postgres.SEED, 16, [100.0]),
        _result("postgres", postgres.RECORD, 16, [rate]),
    ]
    (target,) = targets_of(results, ratios_of(results))
    assert target.met is met


def test_pages_find_what_the_trail_holds(postgres_server: Postgres, tmp_path: Path) -> None:
    """Common and rare values fill a page or come all, absent ones find none, on both stores."""
    file = tmp_path / "pages.json"
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "bench.pages", "--json", file),
            *("--calls", "1", "--events", "4000", "--events", "8000"),
        ],
        cwd=_ROOT,
        env={**os.environ, URL_VARIABLE: postgres_server.url()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert file.exists(), done.stderr
    pages = msgspec.json.decode(file.read_bytes(), type=list[Pages])
    assert {(p.store, p.events) for p in pages} == {
        (store, count) for store in ("SQLite", "PostgreSQL") for count in (4_000, 8_000)
    }
    found = {
        (p.value, p.found) for p in pages if p.scope.startswith("a tenant") and p.filter in _NAMES
    }
    assert found == {("common", 50), ("rare", RARE), ("absent", 0)}


def test_a_logger_that_leaves_a_field_out_is_not_measured(tmp_path: Path) -> None:
    """/dev/null tells nothing, so a logger first shows that it writes every field."""

    @contextmanager
    def forgetful(stream: TextIO) -> Iterator[Callable[[Happening], None]]:
        def call(happening: Happening) -> None:
            fields = plain_fields_of(happening)
            del fields["details"]
            json.dump(fields, stream)

        yield call

    with pytest.raises(WorkMissing, match="forgetful does not write details"):
        check_logger("forgetful", forgetful, tmp_path)


def test_emit_and_the_loggers_are_given_the_same_fields() -> None:
    """An event's body holds what a logger's line holds, of about 300 bytes of details."""
    happening = happenings()()
    body = json.loads(Sealer().seal_call(ACTION, dict(fields_of(happening))).body)
    plain = plain_fields_of(happening)
    assert {name: body[name] for name in plain} == plain
    assert 280 < len(canonical_json(DETAILS)) < 320


async def test_the_seeds_pattern_writes_the_seeds_row(postgres_url: str) -> None:
    """One call commits one row with the seed's columns and the tenant inside its details."""
    happening = happenings()()
    async with seed_writer(postgres_url) as write:
        await write(happening)
    connection = await asyncpg.connect(postgres_url)
    try:
        (row,) = await connection.fetch("SELECT * FROM audit_logs")
    finally:
        await connection.close()
    assert list(row.keys()) == ["id", "action", "details", "agent_id", "user_id", "created_at"]
    assert json.loads(row["details"]) == {**DETAILS, "tenant_id": happening.tenant_id}


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "0"], ["--only", "oracle"]])
def test_bad_use_measures_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with code 2 and names the option."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def _round(rate: float) -> Round:
    return Round(events=1, seconds=1 / rate, p50_microseconds=1.0, p99_microseconds=1.0)


def _result(group: str, name: str, tasks: int, rates: list[float]) -> Result:
    return Result(group=group, name=name, tasks=tasks, rounds=[_round(rate) for rate in rates])
