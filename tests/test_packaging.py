from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_SOURCE = _ROOT / "src" / "muniment"

# Packages come over the network here, at a speed of its own.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the project builds."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "-qq")
    _run(*pip, "wheel", "--no-deps", "--wheel-dir", str(directory), str(_ROOT))
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Migrations, data files and py.typed are shipped as the modules are."""
    wanted = {
        path.relative_to(_SOURCE.parent).as_posix()
        for path in _SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - shipped == set()
    assert {
        "muniment/py.typed",
        "muniment/stores/migrations/sqlite/versions/0001_events.py",
        "muniment/stores/migrations/sqlite/versions/0002_trees.py",
        "muniment/stores/migrations/sqlite/versions/0003_counts.py",
        "muniment/stores/migrations/sqlite/versions/0004_credentials.py",
        "muniment/stores/migrations/postgres/versions/0001_events.py",
        "muniment/stores/migrations/postgres/versions/0002_trees.py",
        "muniment/stores/migrations/postgres/versions/0003_counts.py",
        "muniment/stores/migrations/postgres/versions/0004_credentials.py",
    } <= shipped


def test_the_wheel_alone_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """Installed into an empty environment, the wheel needs nothing else for the main job."""
    environment = tmp_path / "environment"
    empty = tmp_path / "empty"
    empty.mkdir()
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = str(environment / "bin" / "python")
    _run(sys.executable, "-m", "pip", "-qq", "--python", python, "install", str(wheel))
    _run(str(environment / "bin" / "muniment"), "demo", directory=empty)


def _run(*command: str, directory: Path | None = None) -> None:
    unwanted = ("PYTHON", "MUNIMENT_", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
