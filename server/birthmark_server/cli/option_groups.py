"""Options that several commands share, as one value: a parameter of a dataclass stands for all of its fields."""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

KEYWORD = Parameter.KEYWORD_ONLY


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer shall see it: with each group's fields in the group's place, in their order.

    A group is a dataclass whose fields are typer options with defaults; the command gets one, made of what was given.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    seen: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        seen += _fields(groups[name]) if name in groups else [parameter.replace(kind=KEYWORD, annotation=hints[name])]

    @wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    run.__annotations__ = {parameter.name: parameter.annotation for parameter in seen}
    run.__signature__ = Signature(seen)  # type: ignore[attr-defined]  # inspect reads it from any function that has one
    return run


def _fields(kind: type[Any]) -> list[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        Parameter(
            field.name,
            KEYWORD,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]
