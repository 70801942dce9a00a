from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.cells import cell_len

from muniment import Outcome, demo
from tests.cli.running import PROGRAM, SHELL, environment, muniment, prepare, search


def test_the_day_is_the_same_every_time() -> None:
    """Two tellings give equal events, ids and all, in the order of their times."""
    first, second = demo.day(), demo.day()
    assert first == second
    assert [event.event_id for event in first] == sorted(event.event_id for event in first)


def test_the_day_has_something_of_everything() -> None:
    """Each kind of thing that an agent platform records happens in it."""
    events = demo.day()
    actions = Counter(event.action for event in events)
    wanted = {
        *("login", "login_failed", "logout", "sso_login", "role_assign", "org_sync"),
        *("org_department_create", "org_member_update", "agent_start", "agent_stop"),
        *("schedule_tick", "user_deactivate", "document.export"),
    }
    assert wanted - actions.keys() == set()
    assert {event.tenant_id for event in events} == {tenant.id for tenant in demo.TENANTS}
    assert {event.outcome for event in events} >= {
        Outcome.SUCCESS,
        Outcome.FAILURE,
        Outcome.DENIED,
    }
    assert any(event.actor.type == "agent" and event.user_id is not None for event in events)


def test_names_come_from_several_scripts() -> None:
    """Latin, Greek, Cyrillic, Arabic, Devanagari, Chinese, Japanese and Korean are among them."""
    names = "".join(name for tenant in demo.TENANTS for name in tenant.people.values())
    scripts = "a\u03b1\u043e\u0627\u0905\u738b\u85e4\uae40"
    assert [c for c in scripts if c not in names] == []


def test_the_demo_records_the_day_once(store_url: str) -> None:
    """It runs on any store; the second run adds nothing and says so."""
    prepare(store_url)
    first, second = muniment("demo", url=store_url), muniment("demo", url=store_url)
    assert (first.exit_code, first.stderr) == (0, "")
    count = len(demo.day())
    assert f"Recorded {count} events" in first.stdout
    assert f"{count} of them had been recorded before" in second.stdout
    assert {event.event_id for event in search(store_url)} == {
        event.event_id for event in demo.day()
    }


def test_the_demo_finds_what_it_asks_for(sqlite_url: str) -> None:
    """Every question has an answer, and the intruder's deeds are found."""
    shown = muniment("demo", url=sqlite_url).stdout
    assert len(re.findall(r"[1-9]\d* events in \d+ ms", shown)) == 3
    assert "role_assign" in shown.partition(demo.INTRUDER_IP)[2]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_demo_fits_its_terminal(
    sqlite_url: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of text or table is wider than the terminal; commands stay whole, to be copied."""
    monkeypatch.setattr(sys, "executable", f"/{'deep/' * 20}python")  # where it is installed
    shown = muniment("demo", url=sqlite_url, columns=columns).stdout.splitlines()
    assert max(cell_len(line) for line in shown if not line.startswith("$")) <= columns
    assert [line for line in shown if line.startswith("$") and " search " in line][1].endswith(
        "--user u-wangfang --actor-type agent --limit 3"
    )


def test_the_demo_s_commands_work_when_copied(tmp_path: Path) -> None:
    """Each line after a `$` runs in a shell, in the same directory, one after the other."""

    def shell(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SHELL, "-ec", script],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(COLUMNS="120"),
            timeout=110,
            check=False,
        )

    shown = shell(f"{' '.join(PROGRAM)} demo").stdout
    commands = [line[2:] for line in shown.splitlines() if line.startswith("$ ")]
    assert commands.pop().endswith(" serve")  # until it is stopped
    done = shell("\n".join(commands))
    assert (len(commands), done.returncode, done.stderr.count("muniment:")) == (10, 0, 0)
    rows = [line.rstrip() for line in shown.splitlines() if line.startswith("2025")]
    assert len(rows) == 8
    assert [row for row in rows if row not in done.stdout] == []
    assert "waha.jsonl holds:" in done.stdout


def test_the_demo_leaves_the_log_of_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up events go into a file of their own, not into what `MUNIMENT_URL` names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUNIMENT_URL", f"sqlite:///{tmp_path}/real.db")
    muniment("demo")
    assert {path.name for path in tmp_path.glob("*.db")} == {"muniment-demo.db"}
