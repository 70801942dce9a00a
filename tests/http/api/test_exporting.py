from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from muniment.http import exports
from muniment.http.access import Scope
from muniment.http.exports import Exports
from muniment.keys import SigningKey
from tests.http.api.calling import Api, running
from tests.http.api.exported import begin, once_ended, record
from tests.scripted import until


class _Gate:
    """Holds every search up until it is opened."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        search = api.log.search

        async def held(**given: Any) -> Any:
            self.waiting += 1
            await self.opened.wait()
            return await search(**given)

        monkeypatch.setattr(api.log, "search", held)

    async def has(self, waiting: int) -> None:
        """Return once so many searches are held up."""
        await until(lambda: self.waiting >= waiting)


@pytest.fixture
def gate(api: Api, monkeypatch: pytest.MonkeyPatch) -> _Gate:
    """Searches of the export wait until the test opens it."""
    return _Gate(api, monkeypatch)


async def test_a_jsonl_export_holds_what_was_found(api: Api) -> None:
    """Its file has the stored bodies, oldest first, one a line, and its size is told before."""
    ids = await record(api, 1_203)
    path = await begin(api, "jsonl", action=["login"])
    ended = await once_ended(api, path)
    file = await api.get(f"{path}/file")
    lines = file.text.splitlines()
    assert [json.loads(line)["event_id"] for line in lines] == sorted(ids)
    assert (ended["state"], ended["events"], ended["done"], ended["total"]) == (
        "done",
        *[1_203] * 3,
    )
    assert ended["bytes"] == len(file.content)


async def test_a_csv_export_has_a_header_and_rows(api: Api) -> None:
    """CSV is the same table that a stream of a search is."""
    await record(api, 3)
    path = await begin(api, "csv", action=["login"])
    await once_ended(api, path)
    rows = list(csv.DictReader(io.StringIO((await api.get(f"{path}/file")).text)))
    assert [row["tenant_id"] for row in rows] == ["acme"] * 3


async def test_an_evidence_export_is_an_evidence_file(api: Api) -> None:
    """It is what `export_evidence` writes, and its progress ends at its total."""
    receipt = await api.log.record("login", tenant_id="acme")
    await api.log.await_published(receipt)
    path = await begin(api, "evidence", tenant_id="acme", action=["login"])
    ended = await once_ended(api, path)
    file = await api.get(f"{path}/file")
    assert (ended["state"], ended["events"]) == ("done", 1)
    assert ended["done"] == ended["total"] > 0
    assert b"tlog" in file.content or b"checkpoint" in file.content


async def test_a_file_is_saved_not_shown(api: Api) -> None:
    """Whatever is in it, a browser neither renders it nor guesses at it."""
    await record(api, 1)
    path = await begin(api, "csv")
    await once_ended(api, path)
    headers = (await api.get(f"{path}/file")).headers
    assert headers["Content-Disposition"].startswith('attachment; filename="muniment-')
    assert (headers["X-Content-Type-Options"], headers["Content-Type"][:8]) == (
        "nosniff",
        "text/csv",
    )


async def test_a_download_is_recorded(api: Api) -> None:
    """Each one leaves an `audit.export` of the tenant, durable before the first byte goes."""
    await record(api, 1)
    path = await begin(api, "jsonl", tenant_id="acme")
    await once_ended(api, path)
    before = await api.log.search(action="audit.export")
    async with api.stream(f"{path}/file"):
        during = await api.log.search(action="audit.export", tenant_id="acme")
    assert (len(before.events), len(during.events)) == (0, 1)


async def test_evidence_needs_a_tenant(api: Api) -> None:
    """A credential of all tenants must say of which."""
    found = await api.call("POST", "/v1/exports", json={"format": "evidence"})
    assert (found.status_code, found.json()["field"]) == (400, "filters.tenant_id")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"format":"html"}', 400),
        (b'{"format":"csv","filter":{}}', 400),
        (b'{"format":"csv","filters":{"actoin":["login"]}}', 400),
        (b'{"format":"csv","filters":{"since":"yesterday"}}', 400),
        (b'{"format":"csv","filters":{"q":"colour:red"}}', 400),
        (b'{"format":"csv","filters":{"tenant_id":null}}', 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'"' + b"x" * 1_100_000, 413),
    ],
)
async def test_a_request_that_is_wrong_begins_nothing(api: Api, body: bytes, status: int) -> None:
    """It is refused at once, not found out by a job that fails later."""
    headers = {"Content-Type": "application/json"}
    found = await api.call("POST", "/v1/exports", content=body, headers=headers)
    listed = (await api.get("/v1/exports")).json()["exports"]
    assert (found.status_code, listed) == (status, [])


async def test_another_media_type_is_refused(api: Api) -> None:
    """A form could be sent by any page: only JSON is taken."""
    found = await api.call("POST", "/v1/exports", data={"format": "csv"})
    assert found.status_code == 415


async def test_exports_are_their_callers_own(api: Api) -> None:
    """To another credential, of the same tenant or not, they are not there."""
    await record(api, 1)
    mine = await api.token(Scope.EXPORT, tenant_id="acme")
    path = await begin(api, "jsonl", headers=mine)
    await once_ended(api, path, mine)
    for tenant_id in ("acme", "globex"):
        other = await api.token(Scope.EXPORT, tenant_id=tenant_id)
        statuses = [
            (await api.call(method, each, headers=other)).status_code
            for method, each in (("GET", path), ("GET", f"{path}/file"), ("DELETE", path))
        ]
        assert statuses == [404, 404, 404]
        assert (await api.get("/v1/exports", headers=other)).json() == {"exports": []}


async def test_an_export_is_of_the_callers_tenant(api: Api) -> None:
    """A bound credential gets its own tenant's events, and a 403 for asking for another's."""
    await record(api, 2)
    await record(api, 3, "globex")
    bound = await api.token(Scope.EXPORT, tenant_id="globex")
    path = await begin(api, "jsonl", headers=bound, action=["login"])
    other = {"format": "jsonl", "filters": {"tenant_id": "acme"}}
    refused = await api.call("POST", "/v1/exports", json=other, headers=bound)
    assert ((await once_ended(api, path, bound))["events"], refused.status_code) == (3, 403)


async def test_only_so_many_are_made_at_once(api: Api, gate: _Gate) -> None:
    """Two are at work, the others wait for their turn, and all are done in the end."""
    callers = [await api.token(Scope.EXPORT) for _ in range(4)]
    paths = [await begin(api, "jsonl", caller) for caller in callers]
    begun = list(zip(paths, callers, strict=True))
    await gate.has(2)
    states = sorted([(await api.get(path, headers=own)).json()["state"] for path, own in begun])
    gate.opened.set()
    ended = {(await once_ended(api, path, own))["state"] for path, own in begun}
    assert (states, ended) == (["running", "running", "waiting", "waiting"], {"done"})


async def test_what_happens_after_it_was_asked_for_is_not_in_an_export(
    api: Api, gate: _Gate
) -> None:
    """On a log where more happens all the time, an export of all of it has an end."""
    ids = await record(api, 3)
    path = await begin(api, "jsonl")
    await gate.has(1)
    await record(api, 3)
    gate.opened.set()
    assert (await once_ended(api, path))["events"] == len(ids)


async def test_a_file_that_is_not_there_yet_is_told(api: Api, gate: _Gate) -> None:
    """A 409 says how far the export is."""
    path = await begin(api, "jsonl")
    found = await api.get(f"{path}/file")
    gate.opened.set()
    assert (found.status_code, found.json()["type"]) == (409, "urn:muniment:problem:not-done")


async def test_deleting_ends_what_is_at_work(api: Api, gate: _Gate) -> None:
    """The export and its file are gone at once, and nothing goes on making it."""
    path = await begin(api, "jsonl")
    await gate.has(1)
    deleted = await api.call("DELETE", path)
    assert (deleted.status_code, (await api.get(path)).status_code) == (204, 404)
    assert not list(api.service.exports.place.iterdir())


async def test_deleting_in_another_worker_ends_it_too(
    api: Api, gate: _Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that share a directory answer for each other's exports."""
    monkeypatch.setattr(exports, "_TOLD_EVERY", 0.0)
    path = await begin(api, "jsonl")
    await gate.has(1)
    other = Exports(api.log, str(api.service.exports.place))
    caller = await _caller(api)
    await other.delete(other.find(caller, path.rpartition("/")[2]))
    gate.opened.set()
    await until(lambda: not list(api.service.exports.place.iterdir()))


async def test_what_fails_says_why(api: Api) -> None:
    """A failed export keeps its problem, and no part of a file."""
    path = await begin(api, "evidence", tenant_id="nobody")
    ended = await once_ended(api, path)
    assert (ended["state"], ended["problem"]["type"]) == (
        "failed",
        "urn:muniment:problem:not-published",
    )


async def test_an_export_of_a_dead_worker_is_told(
    api: Api, gate: _Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever for what nobody makes any longer."""
    path = await begin(api, "jsonl")
    await gate.has(1)
    monkeypatch.setattr(exports, "_DEAD_AFTER", -1.0)
    assert (await api.get(path)).json()["state"] == "failed"


async def test_finished_exports_give_way_to_new_ones(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond those that are kept, the oldest go."""
    monkeypatch.setattr(exports, "_KEPT", 2)
    paths = []
    for _ in range(3):
        paths.append(await begin(api, "jsonl"))
        await once_ended(api, paths[-1])
    assert [(await api.get(path)).status_code for path in paths] == [404, 200, 200]


async def test_too_many_unfinished_exports_are_refused(
    api: Api, gate: _Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that waits is bounded: beyond that it is 429 with Retry-After."""
    monkeypatch.setattr(exports, "_KEPT", 1)
    await begin(api, "jsonl")
    found = await api.call("POST", "/v1/exports", json={"format": "jsonl"})
    gate.opened.set()
    assert (found.status_code, "Retry-After" in found.headers) == (429, True)


async def test_exports_are_deleted_after_a_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was exported does not lie about."""
    monkeypatch.setattr(exports, "_LIFETIME", 0.05)
    path = await begin(api, "jsonl")
    await until(lambda: not list(api.service.exports.place.iterdir()))
    assert (await api.get(path)).status_code == 404


async def test_shutting_down_leaves_no_file(sqlite_url: str) -> None:
    """Unless a directory was given to keep them in, all goes with the service."""
    async with running(sqlite_url) as api:
        await once_ended(api, await begin(api, "jsonl"))
        place = api.service.exports.place
        assert list(place.iterdir())
    assert not place.exists()


async def test_files_are_their_owners_only(sqlite_url: str, tmp_path: Path) -> None:
    """Nobody else on the machine reads them."""
    async with running(sqlite_url, export_directory=str(tmp_path / "exports")) as api:
        await once_ended(api, await begin(api, "jsonl"))
        modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "exports").iterdir()}
    assert (modes, (tmp_path / "exports").stat().st_mode & 0o077) == ({0}, 0)


async def test_evidence_is_its_owners_only(sqlite_url: str, tmp_path: Path) -> None:
    """Even in a directory that others may look into."""
    (tmp_path / "exports").mkdir(mode=0o755)
    key = SigningKey.from_seed("example.com/audit", b"1" * 32)
    shared = str(tmp_path / "exports")
    async with running(sqlite_url, signing_keys=[key], export_directory=shared) as api:
        await api.log.await_published(await api.log.record("login", tenant_id="acme"))
        await once_ended(api, await begin(api, "evidence", tenant_id="acme"))
        found = {path.suffixes[-1]: path for path in (tmp_path / "exports").iterdir()}
    assert found.keys() == {".json", ".jsonl"}
    assert found[".jsonl"].stat().st_mode & 0o077 == 0


async def test_a_tenant_takes_no_room_of_another(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many exports one makes, those of the others stay."""
    monkeypatch.setattr(exports, "_KEPT", 2)
    acme = await api.token(Scope.EXPORT, tenant_id="acme")
    globex = await api.token(Scope.EXPORT, tenant_id="globex")
    path = await begin(api, "jsonl", acme)
    await once_ended(api, path, acme)
    for _ in range(3):
        await once_ended(api, await begin(api, "jsonl", globex), globex)
    assert (await api.get(path, headers=acme)).status_code == 200


async def test_a_tenant_waits_for_its_own_exports_only(
    api: Api, gate: _Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has as many unfinished as may be is refused; another one is not."""
    monkeypatch.setattr(exports, "_MOST_UNFINISHED", 1)
    acme = await api.token(Scope.EXPORT, tenant_id="acme")
    globex = await api.token(Scope.EXPORT, tenant_id="globex")
    wanted = {"format": "jsonl"}
    found = [
        (await api.call("POST", "/v1/exports", json=wanted, headers=headers)).status_code
        for headers in (acme, acme, globex)
    ]
    gate.opened.set()
    assert found == [202, 429, 202]


async def test_exports_of_one_tenant_do_not_hold_up_anothers(api: Api, gate: _Gate) -> None:
    """Two are made at a time, and one for each tenant."""
    acme = await api.token(Scope.EXPORT, tenant_id="acme")
    globex = await api.token(Scope.EXPORT, tenant_id="globex")
    paths = [await begin(api, "jsonl", acme) for _ in range(3)]
    other = await begin(api, "jsonl", globex)
    await gate.has(2)
    states = [(await api.get(path, headers=acme)).json()["state"] for path in paths]
    states.append((await api.get(other, headers=globex)).json()["state"])
    gate.opened.set()
    for path in paths:
        await once_ended(api, path, acme)
    assert states == ["running", "waiting", "waiting", "running"]


async def test_what_a_power_cut_left_is_in_nobodys_way(sqlite_url: str, tmp_path: Path) -> None:
    """A state without content is none; the exports of the others are listed."""
    (tmp_path / f"{uuid.uuid4()}.json").touch()
    async with running(sqlite_url, export_directory=str(tmp_path)) as api:
        path = await begin(api, "jsonl")
        await once_ended(api, path)
        listed = (await api.get("/v1/exports")).json()["exports"]
    assert [export["export_id"] for export in listed] == [path.rpartition("/")[2]]


async def test_what_a_service_left_is_deleted_by_the_next(sqlite_url: str, tmp_path: Path) -> None:
    """An export outlives its service in a directory that was given, but not its hour."""
    place = tmp_path / "exports"
    async with running(sqlite_url, export_directory=str(place)) as api:
        await once_ended(api, await begin(api, "jsonl"))
    _grow_old(place)
    (place / "somebody's.csv").touch()
    async with running(sqlite_url, export_directory=str(place)):
        await until(lambda: [path.name for path in place.iterdir()] == ["somebody's.csv"])


def _grow_old(place: Path) -> None:
    """Have what lies there be of long ago, and a file without a state beside it."""
    (place / f"{uuid.uuid4()}.csv").touch()
    for path in place.iterdir():
        if path.suffix == ".json":
            state = json.loads(path.read_bytes())
            state["export"]["expires_at"] = "2020-01-01T00:00:00Z"
            path.write_text(json.dumps(state))
        os.utime(path, (0, 0))


async def _caller(api: Api) -> Any:
    secret = api.headers["Authorization"].removeprefix("Bearer ")
    return await api.service.identifier.lookup.caller("token", secret)
