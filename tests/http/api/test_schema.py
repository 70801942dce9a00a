from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from muniment.http.problems import MEDIA_TYPE
from muniment.keys import SigningKey, write_key
from tests.http.api.calling import Api
from tests.servers.muniment import PatientlyServed, Served

_ROOT: Final = Path(__file__).parents[3]
_SCHEMATHESIS: Final = Path(sys.executable).with_name("st")


@pytest.fixture
def served_with_a_key(tmp_path: Path) -> Iterator[Served]:
    """A served log that signs its checkpoints."""
    key = tmp_path / "audit.key"
    write_key(key, SigningKey.from_seed("example.com/audit", b"1" * 32))
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    with PatientlyServed(url, MUNIMENT_SIGNING_KEY_FILE=str(key)) as running:
        yield running


@pytest.mark.timeout(400)
def test_the_service_is_what_its_description_says(
    served_with_a_key: Served, tmp_path: Path
) -> None:
    """Schemathesis, with all its checks, finds nothing: valid and invalid requests, and sequences.

    What a schema can't say of valid requests stands in `schemathesis_hooks`.
    """
    served = served_with_a_key
    done = subprocess.run(
        [
            str(_SCHEMATHESIS),
            "run",
            f"{served.url}/schema",
            *("--header", f"Authorization: Bearer {served.token}"),
            *("--checks", "all", "--max-examples", "8", "--seed", "1"),
            *("--generation-deterministic", "--continue-on-failure", "--request-timeout", "60"),
            "--no-color",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "SCHEMATHESIS_HOOKS": "tests.http.api.schemathesis_hooks",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "Traceback" not in served.output


async def _document(api: Api) -> dict[str, Any]:
    found = await api.get("/schema", headers={"Authorization": ""})
    document: dict[str, Any] = found.json()
    return document


async def test_the_description_is_openapi(api: Api) -> None:
    """It is OpenAPI 3.1, to be had by everybody, under the address that tools expect too."""
    document = await _document(api)
    assert document["openapi"].startswith("3.1")
    assert (await api.get("/schema/openapi.json")).json() == document


async def test_operations_have_their_ids(api: Api) -> None:
    """Clients are generated from these names: they are unique, and stay."""
    document = await _document(api)
    found = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert sorted(found) == [
        "beginExport",
        "countEvents",
        "deleteExport",
        "downloadExport",
        "findEvents",
        "getCheckpoint",
        "getEvent",
        "getExport",
        "getMetrics",
        "isAlive",
        "isReady",
        "listActions",
        "listExports",
        "makeViewerLink",
        "proveEvent",
        "recordEvent",
        "recordEvents",
        "tailEvents",
    ]


async def test_every_refusal_is_described_as_a_problem(api: Api) -> None:
    """Each operation says what its errors look like, and that is the one shape."""
    document = await _document(api)
    media_types = {
        media_type
        for path in document["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if status >= "400" and not (operation["operationId"] == "isReady" and status == "503")
        for media_type in answer["content"]
    }
    assert media_types == {MEDIA_TYPE}


async def test_a_page_has_its_limit(api: Api) -> None:
    """The description says the limit that is set."""
    operation = (await _document(api))["paths"]["/v1/events"]["get"]
    (limit,) = [each for each in operation["parameters"] if each["name"] == "limit"]
    assert limit["schema"]["maximum"] == api.service.settings.max_page


async def test_every_reference_leads_somewhere(api: Api) -> None:
    """No schema is spoken of that isn't there."""
    document = await _document(api)
    text = json.dumps(document)
    named = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= document["components"]["schemas"].keys()
