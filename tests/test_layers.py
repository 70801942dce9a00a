from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_SOURCE = _ROOT / "src"

_OFFLINE = (
    "event",
    "actions",
    "canonical",
    "merkle",
    "tiles",
    "keys",
    "checkpoint",
    "query",
    "processors",
    "proofs",
    "evidence",
)

# Run in a process of its own: what is imported here already would be found there too.
_IMPORT_WITH_THE_REST_BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        ours = {"muniment", "msgspec", "cryptography", "_cffi_backend"}
        if top not in sys.stdlib_module_names | ours:
            raise ImportError(f"{name} is imported by what must do without it")

sys.meta_path.insert(0, Block())
for module in sys.argv[1:]:
    __import__(f"muniment.{module}")
"""


def _modules() -> dict[str, Path]:
    found = {}
    for path in (_SOURCE / "muniment").rglob("*.py"):
        parts = path.relative_to(_SOURCE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_every_module_has_its_layer() -> None:
    """A module that the contract doesn't name would be free to import anything."""
    config = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    (contract,) = (c for c in config["tool"]["importlinter"]["contracts"] if c["id"] == "layers")
    layered = tuple(
        name.strip(" ()")
        for layer in contract["layers"]
        for name in layer.replace(":", "|").split("|")
    )
    # The two packages whose own modules lie on several layers, and the migrations, which import
    # nothing of ours.
    apart = {"muniment", "muniment.stores"}
    migrations = ("muniment.stores.migrations",)
    homeless = [name for name in _modules() if not _is_within(name, layered + migrations)]
    assert set(homeless) - apart == set()


@pytest.mark.parametrize(
    ("driver", "homes"),
    [
        ("aiohttp", ("muniment.anchors.http", "muniment.witness.server")),
        ("alembic", ("muniment.stores.migrating", "muniment.stores.migrations")),
        ("asyncpg", ("muniment.stores.postgres",)),
        ("cryptography", ("muniment.keys",)),
        ("click", ("muniment.cli",)),
        ("granian", ("muniment.http.serving",)),
        ("httpx", ("muniment.http.auth",)),
        ("jinja2", ("muniment.http.viewer",)),
        ("joserfc", ("muniment.http.auth",)),
        ("litestar", ("muniment.http",)),
        ("prometheus_client", ("muniment.integrations.prometheus", "muniment.http.api")),
        ("pydantic", ("muniment.http.settings",)),
        ("rich", ("muniment.cli",)),
        ("sqlite3", ("muniment.stores.sqlite", "muniment.importers", "muniment.witness")),
    ],
)
def test_a_driver_is_imported_in_its_own_place_only(driver: str, homes: tuple[str, ...]) -> None:
    """Whoever wants to exchange a driver finds one place to change."""
    strays = [
        name
        for name, path in _modules().items()
        if any(_is_within(imported, (driver,)) for imported in _imports(path))
        and not _is_within(name, homes)
    ]
    assert strays == []


def test_nothing_imports_the_testing_tools() -> None:
    """`muniment.testing` stands on top: production code never loads it."""
    users = [
        name
        for name, path in _modules().items()
        if any(_is_within(imported, ("muniment.testing",)) for imported in _imports(path))
        and not _is_within(name, ("muniment.testing",))
    ]
    assert users == []


def test_events_and_queries_need_msgspec_only() -> None:
    """An event is read and checked with every import but msgspec and cryptography blocked."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_WITH_THE_REST_BLOCKED, *_OFFLINE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
