"""From URLs to anchors."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from muniment.anchors.add_checkpoint import PATH
from muniment.anchors.base import DEFAULT_TIMEOUT, Anchor
from muniment.anchors.directory import DirectoryAnchor
from muniment.errors import InvalidConfig
from muniment.keys import VerifyingKey

_FORMS: Final = (
    "dir:/path, https://host/path, or witness+https://host/path#VKEY with the witness's public key"
)


def anchors_from(urls: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT) -> tuple[Anchor, ...]:
    """The anchors that these URLs name, in order; nothing is opened yet.

    `dir:/path` is a directory (`dir:path` one relative to the working directory), `https://…` an
    endpoint that takes PUT, `witness+https://…#VKEY` a witness and its public key. Plain `http` is
    for a witness, whose cosignature proves itself, and for endpoints on this machine. `timeout` is
    in seconds, for each. Raises `InvalidConfig`.
    """
    if not timeout > 0:
        raise InvalidConfig(f"anchors: the timeout is {timeout:g} s; it must be above zero")
    found: dict[str, Anchor] = {}
    for url in urls:
        anchor = _anchor(url.strip(), timeout)
        if anchor.name in found:
            raise InvalidConfig(f"anchors: {anchor.name} is given twice")
        found[anchor.name] = anchor
    return tuple(found.values())


def _anchor(url: str, timeout: float) -> Anchor:
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if colon and scheme == "dir":
        return _directory(rest, timeout)
    if colon and scheme in ("http", "https"):
        return _endpoint(url, timeout)
    if colon and scheme in ("witness+http", "witness+https"):
        return _witness(f"{scheme.removeprefix('witness+')}:{rest}", timeout)
    raise InvalidConfig(f"anchors: {_shown(url)!r} names no anchor; use {_FORMS}")


def _directory(path: str, timeout: float) -> Anchor:
    # dir:///path is what a URL of a file would be.
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path or path.startswith("//") or "\0" in path:
        raise InvalidConfig("anchors: dir: names no directory; use dir:/path")
    return DirectoryAnchor(Path(path).expanduser(), timeout=timeout)


def _endpoint(url: str, timeout: float) -> Anchor:
    host, name = _checked(url), _shown(url)
    if url.lower().startswith("http:") and not _is_this_machine(host):
        raise InvalidConfig(
            f"anchors: {name}: use https; who stands between could answer in its place"
        )
    if "#" in url:
        raise InvalidConfig(
            f"anchors: {name}: an endpoint has no #; for a witness, write witness+https://…"
        )
    if "{origin}" not in url and "{size}" not in url:
        if "?" in url:
            raise InvalidConfig(
                f"anchors: {name}: write {{origin}} and {{size}} where they belong, before "
                "the query"
            )
        url = f"{url.rstrip('/')}/{{origin}}/{{size}}"
    elif "{origin}" not in url or "{size}" not in url:
        raise InvalidConfig(
            f"anchors: {name}: needs {{origin}} and {{size}}, or neither: each checkpoint "
            "has a URL of its own"
        )
    return _over_http("endpoint", "HttpAnchor", name, url, timeout=timeout)


def _witness(url: str, timeout: float) -> Anchor:
    url, _, vkey = url.partition("#")
    _checked(url)
    name = f"witness+{_shown(url)}"
    if not vkey:
        raise InvalidConfig(f"anchors: {name}: lacks #VKEY: `muniment witness` prints its own")
    if "?" in url:
        raise InvalidConfig(f"anchors: {name}: a witness's URL has no query")
    key = VerifyingKey.parse(vkey)
    return _over_http(
        "witness", "WitnessAnchor", name, f"{url.rstrip('/')}/{PATH}", key, timeout=timeout
    )


def _over_http(module: str, kind: str, *arguments: Any, timeout: float) -> Anchor:
    from importlib import import_module

    try:
        loaded = import_module(f"muniment.anchors.{module}")
    except ImportError as error:
        raise InvalidConfig(
            f"anchors: HTTP needs {error.name or 'aiohttp'}; install it with "
            "`pip install 'muniment[witness]'`"
        ) from error
    anchor: Anchor = getattr(loaded, kind)(*arguments, timeout=timeout)
    return anchor


def _checked(url: str) -> str:
    """The URL's host. Raises `InvalidConfig` where there is none, or where its port is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidConfig(f"anchors: {_shown(url)!r} is no URL; use {_FORMS}")
    return host


def _shown(url: str) -> str:
    """The URL as it may be shown: without account, query and fragment, which may be secret."""
    scheme, slashes, rest = url.partition("#")[0].partition("?")[0].partition("://")
    if not slashes:  # it may lack what tells an account from a path
        return scheme.rpartition("@")[2]
    place, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path}"


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
