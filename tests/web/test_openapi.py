"""The OpenAPI document: valid, complete, and true to the routes and models that it is drawn from."""

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from birthmark_server.domain import Caller
from birthmark_server.web.api.openapi import PATH, document
from birthmark_server.web.api.routes import OPERATIONS
from birthmark_server.web.doors import Call, Route
from support.routes import every_route


@pytest.fixture(scope="module")
def routes() -> list[Route]:
    return every_route()


@pytest.fixture(scope="module")
def drawn(routes: list[Route]) -> dict[str, Any]:
    return document(routes)


def test_the_document_is_valid_openapi_3_1(drawn: dict[str, Any]) -> None:
    assert drawn["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(drawn).validate()


def test_the_validator_would_find_a_fault(drawn: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(drawn))
    broken["paths"]["/v1/devices"]["get"]["parameters"][0]["in"] = "nowhere"
    assert not OpenAPIV31SpecValidator(broken).is_valid()


def test_every_route_is_in_it_and_nothing_else(drawn: dict[str, Any], routes: list[Route]) -> None:
    listed = {(method.upper(), path) for path, item in drawn["paths"].items() for method in item}
    assert listed == {(route.method, route.path) for route in routes}
    assert ("GET", PATH) in listed


def test_every_operation_says_who_may_use_it_and_has_an_id_of_its_own(drawn: dict[str, Any]) -> None:
    operations = [operation for item in drawn["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert drawn["paths"]["/v1/operators"]["post"]["description"] == "For the role security-officer."
    assert drawn["paths"]["/v1/operators"]["post"]["security"] == [{"certificate": []}]


def test_what_operators_send_and_get_is_described(drawn: dict[str, Any]) -> None:
    for method, path, _, contract, _ in OPERATIONS:
        operation = drawn["paths"][path][method.lower()]
        assert operation["summary"] == contract.summary
        assert ("requestBody" in operation) == (contract.body is not None)
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert named == (
            ({"id"} if "{id}" in path else set())
            | (set(contract.query.model_fields) if contract.query else set())
            | ({"Idempotency-Key"} if contract.creates else set())
        )
        assert str(contract.status if contract.answer else 204) in operation["responses"]
    health = drawn["components"]["schemas"]["Health"]
    assert {"days_left", "next_action", "agent"} <= set(health["properties"])


def test_what_is_served_is_the_document(routes: list[Route], drawn: dict[str, Any]) -> None:
    (route,) = (route for route in routes if route.path == PATH)
    answer = route.handler(Call("r", "127.0.0.1"), Caller("r", "127.0.0.1"))
    assert json.loads(answer.body) == drawn
