"""What `emit` costs its caller, beside two loggers that write the same fields as JSON lines."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Final, TextIO

import structlog
from loguru import logger as loguru_logger

from bench.measuring import Case, Round, Timing, WorkMissing, round_of
from bench.sqlite import count_events
from bench.workload import ACTION, Happening, fields_of, happenings, plain_fields_of
from muniment import AuditLog

EMIT: Final = "emit"
EMIT_BUSY: Final = "emit, recorded meanwhile"
STRUCTLOG: Final = "structlog, JSONRenderer"
LOGURU: Final = "loguru, serialize=True"
_WARM_UP: Final = 100
_CALLS_BETWEEN: Final = 10

Caller = Callable[[Happening], None]
Logger = Callable[[TextIO], AbstractContextManager[Caller]]


@contextmanager
def structlog_caller(stream: TextIO) -> Iterator[Caller]:
    """A call of structlog that writes JSON with a level and a UTC timestamp."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    ).bind()

    def call(happening: Happening) -> None:
        logger.info(ACTION, **plain_fields_of(happening))

    yield call


@contextmanager
def loguru_caller(stream: TextIO) -> Iterator[Caller]:
    """A call of loguru that writes its JSON record, with the fields as `extra`.

    loguru has one logger in a process: its other handlers are removed.
    """
    loguru_logger.remove()
    handler = loguru_logger.add(stream, serialize=True, format="{message}")

    def call(happening: Happening) -> None:
        loguru_logger.bind(**plain_fields_of(happening)).info(ACTION)

    try:
        yield call
    finally:
        loguru_logger.remove(handler)


LOGGERS: Final[dict[str, Logger]] = {STRUCTLOG: structlog_caller, LOGURU: loguru_caller}


def emit_cases(directory: Path, events: int) -> list[Case]:
    """What is measured, `events` calls a round; the logs are SQLite files in that directory."""
    for name, logger in LOGGERS.items():
        check_logger(name, logger, directory)
    measures = {
        EMIT: partial(_measure_emit, directory, events, pauses=False),
        EMIT_BUSY: partial(_measure_emit, directory, events, pauses=True),
        **{name: partial(_measure_logger, logger, events) for name, logger in LOGGERS.items()},
    }
    return [
        Case(group="emit", name=name, tasks=1, measure=measure)
        for name, measure in measures.items()
    ]


def check_logger(name: str, logger: Logger, directory: Path) -> None:
    """Raise `WorkMissing` unless a call of the logger writes all fields: /dev/null won't tell."""
    happening = happenings()()
    with TemporaryDirectory(dir=directory) as fresh:
        file = Path(fresh) / "lines"
        with file.open("w") as stream, logger(stream) as call:
            call(happening)
        line = json.loads(file.read_text())
    written = line["record"]["extra"] if "record" in line else line
    missing = [
        key for key, value in plain_fields_of(happening).items() if written.get(key) != value
    ]
    if missing:
        msg = f"{name} does not write {', '.join(missing)}"
        raise WorkMissing(msg)


async def _measure_emit(directory: Path, events: int, *, pauses: bool) -> Round:
    with TemporaryDirectory(dir=directory) as fresh:
        file = Path(fresh) / "audit.db"
        async with AuditLog.open(f"sqlite:///{file}", max_queue=2 * events + _WARM_UP) as log:

            def call(happening: Happening) -> None:
                log.emit(ACTION, **fields_of(happening))

            await _time(call, _WARM_UP, pauses=False)
            await log.flush()
            timing = await _time(call, events, pauses=pauses)
            await log.flush()
            recorded = (await log.stats())["recorded"]
        found = count_events(file)
    if recorded["spooled"]:
        msg = "the queue ran over, so that the spool was measured too: emit fewer events"
        raise WorkMissing(msg)
    return round_of(timing, warm_up=_WARM_UP, found=found)


async def _measure_logger(logger: Logger, events: int) -> Round:
    with _into_nothing(logger) as call:
        await _time(call, _WARM_UP, pauses=False)
        return round_of(await _time(call, events, pauses=False))


@contextmanager
def _into_nothing(logger: Logger) -> Iterator[Caller]:
    with Path("/dev/null").open("w") as stream, logger(stream) as call:
        yield call


async def _time(call: Caller, events: int, *, pauses: bool) -> Timing:
    """The time of the calls alone; with `pauses` the event loop turns after every few of them."""
    gc.collect()  # nobody pays for what was left behind by the one before
    next_happening = happenings()
    times = []
    for n in range(events):
        if pauses and n % _CALLS_BETWEEN == 0:
            await asyncio.sleep(0)
        happening = next_happening()
        before = perf_counter_ns()
        call(happening)
        times.append(perf_counter_ns() - before)
    return Timing(events, sum(times) / 1e9, times)
