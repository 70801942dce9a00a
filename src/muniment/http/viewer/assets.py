"""The viewer's own CSS and JavaScript: nothing else is ever served from here."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from muniment.http.access import PUBLIC, SCOPE_KEY
from muniment.http.problems import Refusal

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A static file. `version` changes with its content, or that of any other."""

    content: bytes
    media_type: str


@cache
def assets() -> Mapping[str, Asset]:
    """All static files, by their path below `static/`."""
    return dict(_found(files("muniment.http.viewer") / "static", ""))


@cache
def version() -> str:
    """Names this set of static files: modules import each other, so they change as one."""
    digest = hashlib.sha256()
    for name, asset in sorted(assets().items()):
        digest.update(f"{name}:{len(asset.content)}:".encode() + asset.content)
    return digest.hexdigest()[:12]


def _found(directory: Traversable, start: str) -> Any:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _found(entry, f"{start}{entry.name}/")
        else:
            suffix = f".{entry.name.rpartition('.')[2]}"
            kind = _TYPES.get(suffix) or mimetypes.types_map[suffix]
            yield f"{start}{entry.name}", Asset(content=entry.read_bytes(), media_type=kind)


@get("/static/{release:str}/{name:path}", opt={SCOPE_KEY: PUBLIC}, include_in_schema=False)
async def static_file(
    request: Request[Any, Any, Any], release: FromPath[str], name: FromPath[str]
) -> Response[bytes]:
    """A static file. Its path holds the version, so that it may be kept for ever."""
    del request
    found = assets().get(name.removeprefix("/"))
    if found is None:
        raise Refusal(404, "not-found", "There is no such file.")
    # Another version's page may still ask for its files while instances are exchanged.
    keep = _FOR_EVER if release == version() else "no-store"
    return Response(found.content, media_type=found.media_type, headers={"Cache-Control": keep})


ROUTES: tuple[ControllerRouterHandler, ...] = (static_file,)
