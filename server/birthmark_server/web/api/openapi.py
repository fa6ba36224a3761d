"""The OpenAPI 3.1 document, drawn from the very routes that are served and the models that validate.

A route without a contract (enrollment, EST: docs/protocol.md says what they take) is in it with its path and its door.
"""

import json
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from birthmark_server.domain import Caller
from birthmark_server.roles import READING, ROLE_OF
from birthmark_server.web.contract import JSON_MIME
from birthmark_server.web.doors import Answer, Call, Door, Route, for_roles

PATH: Final = "/v1/openapi.json"
PROBLEM_MIME: Final = "application/problem+json"

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457. `code` is stable, `detail` is for people, `field` names what could not be read.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "field": {"type": "string"},
    },
}
_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body gets the stored answer for 24 hours, with another body 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[\\x21-\\x7e]+$"},
}

Names = dict[tuple[Any, JsonSchemaMode], dict[str, Any]]
"""A reference to each model's schema."""


def openapi_route(routes: Iterable[Route]) -> Route:
    """Return the route that serves the document of `routes` and of itself."""
    served: list[Route] = [*routes]

    def serve(_call: Call, _caller: Caller) -> Answer:
        return Answer(200, body, JSON_MIME)

    route = Route("GET", PATH, for_roles(READING), serve)
    body = json.dumps(document([*served, route]), separators=(",", ":")).encode()
    return route


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document. Equal routes give an equal one."""
    listed = list(routes)
    names, definitions = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Birthmark",
            "version": version("birthmark"),
            "description": "What operators do, over mutual TLS. See docs/api.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**definitions, "Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "Refused, or failed; `code` says why.",
                    "content": {PROBLEM_MIME: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "A client certificate of this installation's CAs."}
            },
        },
    }


def _schemas(routes: list[Route]) -> tuple[Names, dict[str, Any]]:
    """Return a reference for each model, and all definitions that they need."""
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for route in routes:
        if route.contract is not None:
            if route.contract.body is not None:
                wanted[route.contract.body, "validation"] = None
            if route.contract.answer is not None:
                wanted[route.contract.answer, "serialization"] = None
    names, schema = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    return dict(names), schema.get("$defs", {})


def _operation(route: Route, names: Names) -> dict[str, Any]:
    contract = route.contract
    summary = contract.summary if contract else "See docs/protocol.md."
    if route.path == PATH:
        summary = "This document."
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": summary,
        "description": f"For {_who(route.door)}.",
        "security": [] if route.door.anonymous else [{"certificate": []}],
        "parameters": list(_parameters(route)),
        "responses": {"default": {"$ref": "#/components/responses/Problem"}},
    }
    success: dict[str, Any] = {"description": "Done."}
    if contract is not None and contract.body is not None:
        body = {"schema": names[contract.body, "validation"]}
        operation["requestBody"] = {"required": True, "content": {JSON_MIME: body}}
    if contract is not None and contract.raw_body:
        raw = {contract.raw_body: {"schema": {"type": "string"}}}
        operation["requestBody"] = {"required": True, "content": raw}
    if contract is not None and contract.answer is not None:
        success["content"] = {JSON_MIME: {"schema": names[contract.answer, "serialization"]}}
    nothing = contract is not None and contract.answer is None
    operation["responses"][str(204 if nothing else contract.status if contract else 200)] = success
    return operation


def _operation_id(route: Route) -> str:
    words = re.findall(r"[A-Za-z0-9]+", route.path.replace("{id}", "one"))
    return "_".join([route.method.lower(), *words])


def _who(door: Door) -> str:
    roles = sorted({role.value for profile, role in ROLE_OF.items() if profile in door.profiles})
    others = sorted(profile.value for profile in door.profiles if profile not in ROLE_OF)
    anybody = ["clients without a certificate"] if door.anonymous else []
    return ", ".join([*anybody, *others, *(f"the role {role}" for role in roles)])


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    if "{id}" in route.path:
        yield {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    contract = route.contract
    if contract is None:
        return
    if contract.query is not None:
        schema = contract.query.model_json_schema(ref_template="#/components/schemas/{model}")
        definitions = schema.get("$defs", {})
        for name, field in schema["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": _inlined(field, definitions)}
    if contract.creates:
        yield _KEY


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a parameter's schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _inlined(definitions[name], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
