"""Exports, made in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any, BinaryIO, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from muniment.errors import InvalidQuery
from muniment.http.access import COOKIE_KEY, SCOPE_KEY, Caller, Scope
from muniment.http.api.asking import Nothing, asks, json_of, read_json
from muniment.http.api.describing import OPERATION_KEY, Answer, Operation
from muniment.http.api.wire import CSV, JSON, NDJSON, Export, Exports, NewExport
from muniment.http.exports import SUFFIX_OF
from muniment.http.service import Service
from muniment.http.streaming import Streamed
from muniment.query import make_filter
from muniment.sealing import utc_now

_READ_AT_ONCE: Final = 256 * 1024
_MEDIA_TYPE_OF: Final = {"jsonl": NDJSON, "csv": CSV, "evidence": NDJSON}


@post(
    "/v1/exports",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: Scope.EXPORT,
        COOKIE_KEY: True,
        OPERATION_KEY: Operation(
            id="beginExport",
            summary="Begin an export",
            description="It is made in the background and kept for an hour; `Location` is where "
            "to see how far it is. `evidence` is of one tenant, proves what it holds, and is read "
            "by `muniment verify`.",
            bodies={JSON: NewExport},
            answers={
                202: Answer(
                    description="It waits for its turn.",
                    bodies={JSON: Export},
                    headers={"Location": "Where the export is, relative to this URL."},
                )
            },
            problems=(408, 413, 415),
        ),
    },
)
async def begin_export(
    request: Request[Any, Any, Any],
    asked: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The export that was begun."""
    del asked
    wanted = await read_json(request, NewExport)
    filters = wanted.filters.arguments()
    filters["tenant_id"] = caller.tenant(filters.get("tenant_id"))
    now = utc_now()
    make_filter(now=now, given=filters)
    if wanted.format != "evidence" and filters.get("until") is None:
        # Where more happens all the time, an export of all of it would never end.
        filters["until"] = now.isoformat()
    if wanted.format == "evidence" and filters["tenant_id"] is None:
        raise InvalidQuery("filters.tenant_id", "is needed: evidence is of one tenant's trail")
    export = service.exports.begin(caller, wanted, filters)
    response = json_of(export, HTTPStatus.ACCEPTED)
    response.headers["Location"] = f"exports/{export.export_id}"
    return response


@get(
    "/v1/exports",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: Scope.EXPORT,
        OPERATION_KEY: Operation(
            id="listExports",
            summary="Your exports",
            description="Those that this credential began, newest first.",
            answers={200: Answer(description="The exports.", bodies={JSON: Exports})},
        ),
    },
)
async def list_exports(
    asked: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The caller's exports."""
    del asked
    return json_of(Exports(exports=service.exports.of(caller)))


@get(
    "/v1/exports/{export_id:str}",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: Scope.EXPORT,
        OPERATION_KEY: Operation(
            id="getExport",
            summary="How far an export is",
            answers={200: Answer(description="The export.", bodies={JSON: Export})},
            problems=(404,),
        ),
    },
)
async def get_export(
    export_id: FromPath[str],
    asked: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """One of the caller's exports."""
    del asked
    return json_of(service.exports.find(caller, export_id))


@get(
    "/v1/exports/{export_id:str}/file",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: Scope.EXPORT,
        OPERATION_KEY: Operation(
            id="downloadExport",
            summary="An export's file",
            answers={
                200: Answer(description="The file.", bodies={NDJSON: bytes, CSV: bytes}),
            },
            problems=(404, 409),
        ),
    },
)
async def download_export(
    export_id: FromPath[str],
    asked: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> Response[bytes]:
    """The file, for saving: never for showing."""
    del asked
    export = service.exports.find(caller, export_id)
    file = service.exports.open_file(export)
    taken = {
        "what": "export",
        "export": export.export_id,
        "format": export.format,
        "filters": msgspec.to_builtins(export.filters),
    }
    try:
        await service.readings.export(caller, export.tenant_id, taken)
    except BaseException:
        file.close()
        raise
    name = f"muniment-{export.created_at:%Y%m%dT%H%M%SZ}{SUFFIX_OF[export.format]}"
    return Streamed(
        _contents(file),
        media_type=_MEDIA_TYPE_OF[export.format],
        headers={
            "Content-Length": str(export.bytes),
            "Content-Disposition": f'attachment; filename="{name}"',
        },
        ended=lambda: asyncio.to_thread(file.close),
    )


@delete(
    "/v1/exports/{export_id:str}",
    dependencies={"asked": asks(Nothing)},
    opt={
        SCOPE_KEY: Scope.EXPORT,
        OPERATION_KEY: Operation(
            id="deleteExport",
            summary="Delete an export, or end it",
            answers={204: Answer(description="It is gone, with its file.")},
            problems=(404,),
        ),
    },
)
async def delete_export(
    export_id: FromPath[str],
    asked: NamedDependency[Nothing],
    caller: NamedDependency[Caller],
    service: NamedDependency[Service],
) -> None:
    """Nothing: the export is gone."""
    del asked
    await service.exports.delete(service.exports.find(caller, export_id))


ROUTES: tuple[ControllerRouterHandler, ...] = (
    begin_export,
    list_exports,
    get_export,
    download_export,
    delete_export,
)


async def _contents(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    """What is in a file; once it is open, it may be deleted."""
    while piece := await asyncio.to_thread(file.read, _READ_AT_ONCE):
        yield piece
