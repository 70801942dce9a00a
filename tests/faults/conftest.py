"""What the fault tests share: how often to inject a fault, and the table of what was found."""

from __future__ import annotations

from typing import Final

import pytest

from tests.faults.tally import Rounds, Tally

_TALLY: Final = pytest.StashKey[Tally]()


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> Rounds:
    """`rounds(few, many)` is few, or many with --all-rounds."""
    all_rounds = pytestconfig.getoption("--all-rounds")
    return lambda few, many: many if all_rounds else few


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    """The tally of this run: `add` a verdict to it, which fails if the verdict isn't clean."""
    return pytestconfig.stash.setdefault(_TALLY, Tally())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the tally, if anything was counted."""
    lines = config.stash.get(_TALLY, Tally()).lines()
    if lines:
        terminalreporter.section("faults: what was acknowledged, and what became of it")
        for line in lines:
            terminalreporter.write_line(line)
