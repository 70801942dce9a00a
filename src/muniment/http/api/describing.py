"""The API's description (OpenAPI 3.1), made from the same structs that the handlers work with.

Each handler says in its `opt` what it takes and answers (`Operation`); the routes, their paths and
the scopes are read off the application, so that the description can't leave a route out.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from muniment.checks import MAX_ID_BYTES
from muniment.http.access import PUBLIC, SCOPE_KEY, Scope
from muniment.http.problems import MEDIA_TYPE, Problem

OPERATION_KEY: Final = "operation"
"""The key of a route handler's `opt` that holds its `Operation`."""
_COMPONENT: Final = "#/components/schemas/{name}"
_SECURITY: Final = "token"
_UUID: Final = {"type": "string", "format": "uuid"}
_LINE: Final = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
_OF_EVERY_ROUTE: Final = (400, 414, 431, 500, 503)
_OF_CALLERS: Final = (401, 403, 429)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is no problem: its media types, each with the struct of its body.

    `str` and `bytes` stand for text and for a file. `headers` says what each of them holds.
    """

    description: str
    bodies: Mapping[str, type] = {}
    headers: Mapping[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What one handler takes and answers. `id` and the names in it stay.

    `query` is the struct of its parameters, `headers` maps each header it reads to what it says,
    `bodies` has the media types that it takes. `problems` are the statuses of its refusals, beside
    those that every route has.
    """

    id: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    query: type[msgspec.Struct] | None = None
    headers: Mapping[str, str] = {}
    bodies: Mapping[str, Any] = {}
    problems: tuple[int, ...] = ()
    needs: Scope | None = None
    """The scope, if that is not in `opt`: where it depends on a setting."""


def described(app: Litestar, *, max_page: int) -> dict[str, Any]:
    """The OpenAPI document of an application."""
    found = [
        (route.path_format, method, handler, operation)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if (operation := handler.opt.get(OPERATION_KEY)) is not None
    ]
    schemas = _Schemas()
    paths: dict[str, Any] = {}
    for path, method, handler, operation in sorted(found, key=lambda each: each[:2]):
        paths.setdefault(path, {})[method.lower()] = _operation(
            path, handler, operation, schemas, max_page
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "muniment",
            "version": version("muniment"),
            "summary": "The audit trail: record what happened, find it again, prove it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "securitySchemes": {
                _SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `muniment tokens create`, or of the identity "
                    "provider that the service trusts.",
                }
            },
        },
    }


class _Schemas:
    """The JSON Schemas of all structs that the API speaks of."""

    def __init__(self) -> None:
        self.components: dict[str, dict[str, Any]] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a body."""
        if kind is bytes:
            return {"type": "string", "contentMediaType": "application/octet-stream"}
        schema, components = self._made(kind)
        self.components |= components
        return schema

    def parameters(self, kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
        """The fields of a struct as query parameters."""
        _, components = self._made(kind)
        own = components.pop(kind.__name__)
        self.components |= components
        return [
            {
                "name": name,
                "in": "query",
                "required": name in own["required"],
                "description": schema.get("description", ""),
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in own["properties"].items()
        ]

    def _made(self, kind: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        (schema,), components = msgspec.json.schema_components([kind], ref_template=_COMPONENT)
        for component in components.values():
            if "description" in component:
                component["description"] = component["description"].partition("\n\n")[0]
        return schema, components


def _operation(
    path: str, handler: HTTPRouteHandler, operation: Operation, schemas: _Schemas, max_page: int
) -> dict[str, Any]:
    scope = operation.needs or handler.opt[SCOPE_KEY]
    parameters: list[dict[str, Any]] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": _UUID}
        for part in path.split("/")
        if part.startswith("{")
    ]
    if operation.query is not None:
        parameters += schemas.parameters(operation.query)
        for parameter in parameters:
            if parameter["name"] == "limit":
                parameter["schema"] |= {"maximum": max_page}
    parameters += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": _LINE}
        for name, text in operation.headers.items()
    ]
    problems = {*operation.problems, *_OF_EVERY_ROUTE, *(() if scope == PUBLIC else _OF_CALLERS)}
    answers = {str(status): _answer(a, schemas) for status, a in operation.answers.items()}
    refusals = {
        str(status): _problem(status, schemas)
        for status in sorted(problems - operation.answers.keys())
    }
    made: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description + _needs(scope),
        "security": [] if scope == PUBLIC else [{_SECURITY: []}],
        "parameters": parameters,
        "responses": answers | refusals,
    }
    if operation.bodies:
        made["requestBody"] = {"required": True, "content": _content(operation.bodies, schemas)}
    return made


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.description}
    if answer.bodies:
        made["content"] = _content(answer.bodies, schemas)
    if answer.headers:
        made["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in answer.headers.items()
        }
    return made


def _problem(status: int, schemas: _Schemas) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "content": _content({MEDIA_TYPE: Problem}, schemas),
    }


def _content(bodies: Mapping[str, Any], schemas: _Schemas) -> dict[str, Any]:
    return {media_type: {"schema": schemas.of(kind)} for media_type, kind in bodies.items()}


def _needs(scope: str) -> str:
    return "" if scope == PUBLIC else f" Needs the scope `{scope}`."
