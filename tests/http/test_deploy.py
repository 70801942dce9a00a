"""What docs/deploy.md and deploy/ hand out holds: settings, unit, example, Dockerfile."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from muniment.http.settings import ServiceSettings, load_settings

_ROOT = Path(__file__).parent.parent.parent
_PAGE = _ROOT / "docs" / "deploy.md"
_UNIT = _ROOT / "deploy" / "muniment.service"
_EXAMPLE = _ROOT / "deploy" / "muniment.toml"
_DOCKERFILE = _ROOT / "Dockerfile"


def table() -> str:
    """The settings as the page must list them."""
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, field in ServiceSettings.model_fields.items():
        shown = _shown(field.default)
        rows.append(f"| `{name}` | {shown} | {str(field.description).removesuffix('.')} |")
    return "\n".join(rows)


def _shown(default: Any) -> str:
    if not default and default is not False:
        return ""
    if isinstance(default, timedelta):
        return f"{default.total_seconds():.0f} s"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"{default:,}" if isinstance(default, int) and default > 9_999 else f"`{default}`"


def test_the_page_lists_every_setting() -> None:
    """The table says of each setting what the code does: name, default, meaning."""
    assert table() in _PAGE.read_text()


def test_the_page_shows_the_unit_and_the_example_as_they_are() -> None:
    """The files that the page tells people to copy are there."""
    assert {"deploy/muniment.service", "deploy/muniment.toml"} <= set(
        re.findall(r"deploy/[\w.]+", _PAGE.read_text())
    )


def test_the_example_is_taken() -> None:
    """Every line of the example is a setting, and what it comments out is one too."""
    text = _EXAMPLE.read_text()
    settings, url = load_settings(_EXAMPLE, {})
    assert (settings.behind_tls, url) == (True, "postgresql://muniment@localhost/audit")
    for line in re.findall(r"^# (\w+ = .+)$", text, re.MULTILINE):
        assert set(tomllib.loads(line)) <= set(ServiceSettings.model_fields)


def _unit() -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in _UNIT.read_text().splitlines():
        name, given, value = line.partition("=")
        if given and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_the_unit_takes_away_what_the_service_does_not_need() -> None:
    """It runs as nobody in particular, may write its state only, and gains no rights."""
    unit = _unit()
    assert unit["DynamicUser"] == ["yes"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""]


def test_the_unit_waits_until_the_service_has_drained() -> None:
    """SIGKILL comes only after the time that requests have, and that the log has to close."""
    (patience,) = _unit()["TimeoutStopSec"]
    assert int(patience) > ServiceSettings().drain_seconds + 10


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, once the program is where the unit has it."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here; install systemd to have the unit checked")
    program = str(_unit()["ExecStart"][0]).split()[0]
    unit = tmp_path / "muniment.service"
    unit.write_text(_UNIT.read_text().replace(program, sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def _instructions() -> list[tuple[str, str]]:
    joined = _DOCKERFILE.read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_image_runs_as_a_user_without_rights() -> None:
    """The last stage sets a user by number, which is not root's."""
    last = max(n for n, (name, _) in enumerate(_instructions()) if name == "FROM")
    users = [rest for name, rest in _instructions()[last:] if name == "USER"]
    assert users == ["10001:10001"]


def test_the_image_is_made_of_this_source_alone() -> None:
    """Nothing is fetched by address, and no place that packages come from is named."""
    text = _DOCKERFILE.read_text()
    assert "ADD" not in {name for name, _ in _instructions()}
    assert not re.search(r"https?://(?!127\.0\.0\.1)|--index-url|curl|wget|apt", text)


def test_the_image_has_what_the_build_copies() -> None:
    """Each path that is copied from the source is there."""
    for name, rest in _instructions():
        if name == "COPY" and "--from" not in rest:
            assert all((_ROOT / source).exists() for source in rest.split()[:-1])


def test_the_image_says_how_it_does_and_how_it_ends() -> None:
    """It has a health check that needs no program but Python, and ends by SIGTERM."""
    instructions = dict(_instructions())
    assert "urlopen('http://127.0.0.1:8640/healthz'" in instructions["HEALTHCHECK"]
    assert instructions["STOPSIGNAL"] == "SIGTERM"
    assert instructions["ENTRYPOINT"] == '["muniment"]'
