"""The documented file, written from the descriptions of the settings themselves."""

import json
from collections.abc import Iterator
from typing import Final

from birthmark_server.settings.broker import RabbitMqSettings, ShardSettings
from birthmark_server.settings.values import Section
from birthmark_server.settings.whole import Settings, fields

_EXAMPLES: Final[dict[str, object]] = {
    "server.names": ["enroll.example"],
    "server.certificate": "/etc/birthmark/server.pem",
    "server.key": "/etc/birthmark/server.key",
    "database.url": "sqlite:////var/lib/birthmark/birthmark.db",
    "database.journal": "/var/lib/birthmark/journal",
    "ca.folder": "/etc/birthmark/ca",
    "tpm.roots": "/etc/birthmark/tpm-roots",
    "broker.host": "broker.example",
    "broker.shards.name": "mqtt-1",
    "broker.shards.host": "mqtt-1.example",
}


def example() -> str:
    """Return a settings file with every key, its description above it; what has a default is commented out."""
    return "\n".join(line for section in Settings.model_fields for line in _example_section(section))


def _example_section(section: str) -> Iterator[str]:
    model = Settings.model_fields[section].annotation
    yield f"# {(model.__doc__ or '').strip()}"
    yield f"[{section}]"
    for key, field in fields(section).items():
        yield from _wrap(field.description or "")
        given = _EXAMPLES.get(f"{section}.{key}")
        default = field.get_default()
        value = {} if isinstance(default, Section) else default
        yield f"{key} = {_toml(given)}" if given is not None else f"# {key} = {_toml(value)}"
        if key == "shards":
            yield from _example_table("[[broker.shards]]", "broker.shards", ShardSettings)
        if key == "rabbitmq":
            yield from _example_table("[broker.rabbitmq]", "broker.rabbitmq", RabbitMqSettings)
    yield ""


def _example_table(head: str, name: str, model: type[Section]) -> Iterator[str]:
    """Yield what a table below a section may say, unlike the keys of the same names above it: who fills the file in
    with sed finds those alone."""
    yield f"## {head}"
    for key, field in model.model_fields.items():
        yield from _wrap(field.description or "", start="## #")
        yield f"## {key}={_toml(_EXAMPLES.get(f'{name}.{key}', field.get_default()))}"


def _wrap(text: str, width: int = 100, *, start: str = "#") -> Iterator[str]:
    line = start
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            yield line
            line = start
        line += f" {word}"
    yield line


def _toml(value: object) -> str:
    return json.dumps(value)  # strings, numbers, booleans and lists of them are written alike in both
