"""What a request asks for: its query and its `Accept`, checked before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.di import Provide

from muniment.errors import InvalidQuery
from muniment.http.bodies import body_of
from muniment.http.bodies import media_type_of as media_type_of_body
from muniment.http.problems import Refusal

_T = TypeVar("_T", bound=msgspec.Struct)
_MOST_FIELDS: Final = 1_000
_MOST_BYTES: Final = 1_048_576


class Nothing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a route that takes none."""


def asks(kind: type[_T]) -> Provide:
    """The dependency that gives a handler its query, as that struct.

    A parameter that the struct doesn't know is refused: misspelt, a filter would widen a search.
    """

    def provide(request: Request[Any, Any, Any]) -> _T:
        return read_query(request.scope["query_string"], kind)

    # Litestar reads the annotation; a type variable would tell it nothing.
    provide.__annotations__ = {"request": Request[Any, Any, Any], "return": kind}
    return Provide(provide, sync_to_thread=False)


def read_query(query: bytes, kind: type[_T]) -> _T:
    """A query string as a struct. Raises `InvalidQuery`, naming the parameter."""
    several = _several_of(kind)
    given: dict[str, Any] = {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:
        raise InvalidQuery("query", f"can't be read: {error}") from None
    for name, value in pairs:
        if name in several:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise InvalidQuery(name[:80], "is given twice; it takes one value")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


async def read_json(request: Request[Any, Any, Any], kind: type[_T]) -> _T:
    """The JSON body as a struct. Raises `InvalidQuery`, naming the field, and a 415 or 413."""
    media_type_of_body(request, ("application/json",))
    body = await body_of(request, _MOST_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidQuery("body", f"is no JSON: {error}") from None


def _invalid(message: str) -> InvalidQuery:
    """What msgspec found wrong, naming the field."""
    problem, _, path = message.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if (
        not field
        and (unknown := problem.removeprefix("Object contains unknown field `")) != problem
    ):
        return InvalidQuery(unknown.rstrip("`")[:80], "is not known here; misspelt?")
    return InvalidQuery(field or "body", problem[:1].lower() + problem[1:])


def media_type_of(request: Request[Any, Any, Any], offered: Sequence[str]) -> str:
    """The media type, of those offered, that the client likes best; the first if it has no say.

    Raises a 406 if it accepts none of them.
    """
    if not request.headers.get("accept", "").strip():
        return offered[0]
    found = request.accept.best_match(list(offered))
    if found is None:
        raise Refusal(
            HTTPStatus.NOT_ACCEPTABLE,
            "not-acceptable",
            f"Accept: none of it is to be had here; there are {', '.join(offered)}.",
        )
    return found


def json_of(value: msgspec.Struct, status: int = HTTPStatus.OK) -> Response[bytes]:
    """A struct as a JSON response."""
    return Response(
        msgspec.json.encode(value), status_code=int(status), media_type="application/json"
    )


@cache
def _several_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that may be repeated."""
    described: Any = msgspec.inspect.type_info(kind)
    return frozenset(
        field.name
        for field in described.fields
        if isinstance(getattr(field.type, "type", field.type), msgspec.inspect.VarTupleType)
    )
