from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muniment import Actor, Event, Outcome
from tests.cli.running import PROGRAM, SHELL, bodies, environment, muniment, record

_PATIENCE = 60


@contextmanager
def _running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    # A shell has what it runs in the background ignore Ctrl-C, and that would be inherited.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    finally:
        signal.signal(signal.SIGINT, former)
    with started as process:
        try:
            yield process
        finally:
            process.kill()


def _first(url: str) -> str:
    return record(url, [Event(action="first", tenant_id="acme")])[0].event_id


def test_tail_shows_what_follows_an_event_in_the_order_of_recording(sqlite_url: str) -> None:
    """Late events come when they are recorded, not where their time would put them."""
    first = _first(sqlite_url)
    late = Event(action="late", event_id="019b0000-0000-7000-8000-000000000000")
    record(sqlite_url, [Event(action="second"), late, Event(action="third")])
    shown = muniment("tail", "--no-follow", "--after", first, url=sqlite_url).stdout
    assert [line.split()[3] for line in shown.splitlines()] == ["second", "late", "third"]


def test_tail_takes_the_conditions_of_search(store_url_ready: str) -> None:
    """Only what is asked for is shown."""
    first = _first(store_url_ready)
    record(
        store_url_ready,
        [
            Event(action="login", tenant_id="acme", outcome=Outcome.DENIED),
            Event(action="login", tenant_id="acme", actor=Actor.user("u1")),
            Event(action="login", tenant_id="beta", outcome=Outcome.DENIED),
        ],
    )
    options = ("--tenant", "acme", "--outcome", "denied")
    done = muniment("tail", "--no-follow", "--after", first, *options, url=store_url_ready)
    assert done.stdout.count("\n") == 1


def test_tail_as_jsonl_prints_stored_bodies(sqlite_url: str) -> None:
    """Another program gets the very bytes of each event, one a line."""
    first = _first(sqlite_url)
    record(sqlite_url, [Event(action="second", details={"n": 1e20, "é": [1.5]})])
    done = muniment("tail", "--no-follow", "--after", first, "--format", "jsonl", url=sqlite_url)
    assert done.raw == bodies(sqlite_url)[0] + b"\n"


def test_tail_follows_until_it_is_interrupted(store_url_ready: str) -> None:
    """An event that another process records appears; Ctrl-C is the way to end, and no failure."""
    first = _first(store_url_ready)
    with _running("--url", store_url_ready, "tail", "--after", first) as tail:
        assert tail.stdout is not None
        for action in ("second", "third"):
            record(store_url_ready, [Event(action=action)])
            assert action in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        rest, complaints = tail.communicate(timeout=_PATIENCE)
    assert (tail.returncode, rest, complaints) == (0, "", "")


def test_tail_ends_when_its_reader_leaves(sqlite_url: str, tmp_path: Path) -> None:
    """`tail | head -n 1` ends, silently and with success, once there is more than head wants."""
    first = _first(sqlite_url)
    script = f"set -o pipefail; {' '.join(PROGRAM)} tail --after {first} | head -n 1"
    with subprocess.Popen(
        [SHELL, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(MUNIMENT_URL=sqlite_url),
        cwd=tmp_path,
    ) as pipeline:
        for n in range(_PATIENCE * 10):
            record(sqlite_url, [Event(action=f"tick.{n}")])
            try:
                pipeline.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                continue
        pipeline.kill()
        shown, complaints = pipeline.communicate()
    assert (pipeline.returncode, complaints) == (0, "")
    assert "tick.0" in shown


def test_search_ends_when_its_reader_leaves(sqlite_url: str) -> None:
    """Long results into `head` are cut short silently, in every format."""
    record(sqlite_url, [Event(action="tick", details={"filler": "x" * 500}) for _ in range(1500)])
    script = "set -o pipefail; {} search --all --format {} | head -n 1"
    ended = []
    for name in ("table", "jsonl", "csv", "json"):
        done = subprocess.run(
            [SHELL, "-c", script.format(" ".join(PROGRAM), name)],
            capture_output=True,
            text=True,
            env=environment(MUNIMENT_URL=sqlite_url),
            timeout=_PATIENCE,
            check=False,
        )
        ended.append((name, done.returncode, done.stderr))
    assert ended == [(name, 0, "") for name in ("table", "jsonl", "csv", "json")]


def test_tail_without_follow_wants_to_know_where_to_begin(sqlite_url: str) -> None:
    """Nothing follows the present, so asking for it is a mistake."""
    _first(sqlite_url)
    done = muniment("tail", "--no-follow", url=sqlite_url)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_tail_after_an_unknown_event_is_one_line(sqlite_url: str) -> None:
    """A place that isn't there is told of, not waited for."""
    _first(sqlite_url)
    done = muniment("tail", "--after", "nonsense", url=sqlite_url)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
