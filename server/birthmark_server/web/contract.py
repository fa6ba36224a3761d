"""What a route takes and gives, as pydantic models: they validate each request, and the OpenAPI document is drawn of
them."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

JSON_MIME: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Contract:
    """query, body: what is read; None where nothing is. answer: None for an answer without a body (204).

    summary: one sentence. status: of success. creates: takes an Idempotency-Key. raw_body: the media type of a body
    that is no JSON. most_body_bytes, alone: as in doors.Route.
    """

    summary: str
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    creates: bool = False
    most_body_bytes: int = 0
    alone: bool = False
    raw_body: str = ""
