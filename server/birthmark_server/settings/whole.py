"""The whole file, read: what is wrong in it is said in one sentence, with the name that was probably meant."""

import difflib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from birthmark_server.errors import Misconfigured
from birthmark_server.settings.broker import BrokerSettings, RabbitMqSettings, ShardSettings
from birthmark_server.settings.sections import (
    CaSettings,
    CrlSettings,
    DatabaseSettings,
    EnrollmentSettings,
    EstSettings,
    FrontSettings,
    LimitSettings,
    LogSettings,
    OcspSettings,
    RefusalSettings,
    RolloverSettings,
    RotationSettings,
    ServerSettings,
    TpmSettings,
    TracingSettings,
)
from birthmark_server.settings.values import Section


class Settings(Section):
    """The whole file."""

    server: ServerSettings
    database: DatabaseSettings
    ca: CaSettings
    tpm: TpmSettings
    broker: BrokerSettings
    enrollment: EnrollmentSettings = EnrollmentSettings.model_validate({})
    est: EstSettings = EstSettings.model_validate({})
    rotation: RotationSettings = RotationSettings.model_validate({})
    rollover: RolloverSettings = RolloverSettings.model_validate({})
    crl: CrlSettings = CrlSettings.model_validate({})
    ocsp: OcspSettings = OcspSettings.model_validate({})
    refusals: RefusalSettings = RefusalSettings.model_validate({})
    limits: LimitSettings = LimitSettings.model_validate({})
    front: FrontSettings = FrontSettings.model_validate({})
    log: LogSettings = LogSettings.model_validate({})
    tracing: TracingSettings = TracingSettings.model_validate({})

    @property
    def public_url(self) -> str:
        """What devices are told, without a slash at its end."""
        port = self.server.listen.rpartition(":")[2]
        return self.server.public_url.rstrip("/") or f"https://{self.server.names[0]}:{port}"


_PATHS: Final = {
    "server": ("certificate", "key"),
    "database": ("journal",),
    "ca": ("folder",),
    "tpm": ("roots",),
    "broker": (
        "control_certificate",
        "control_key",
        "command_certificate",
        "command_key",
        "deny_file",
        "deny_certificate",
        "deny_key",
    ),
    "front": ("listen",),
    "tracing": ("anchors",),
}


def load(path: Path) -> Settings:
    """Read the file or raise Misconfigured with one sentence for everything that is wrong in it."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"can't read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not TOML: {error}") from None
    return parse(tables, folder=path.resolve().parent, source=str(path))


def parse(tables: dict[str, Any], *, folder: Path, source: str = "settings") -> Settings:
    """Check the tables of a settings file; relative paths start at `folder`. Raise Misconfigured."""
    for section, keys in _PATHS.items():
        table = tables.get(section)
        if isinstance(table, dict):
            table.update(
                {key: str(folder / table[key]) for key in keys if isinstance(table.get(key), str) and table[key]}
            )
    for shard in _shard_tables(tables):
        if isinstance(shard.get("deny_file"), str) and shard["deny_file"]:
            shard["deny_file"] = str(folder / shard["deny_file"])
    try:
        return Settings.model_validate(tables)
    except ValidationError as errors:
        raise Misconfigured(f"{source}: " + "; ".join(_explain(errors))) from None


def _shard_tables(tables: dict[str, Any]) -> list[dict[str, Any]]:
    broker = tables.get("broker")
    shards = broker.get("shards") if isinstance(broker, dict) else None
    return [one for one in shards if isinstance(one, dict)] if isinstance(shards, list) else []


def _explain(errors: ValidationError) -> Iterator[str]:
    for error in errors.errors(include_url=False):
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            wanted = ".".join(part for part in error["loc"] if isinstance(part, str))
            nearest = difflib.get_close_matches(wanted, _known_names(), n=1, cutoff=0.6)
            yield f"{name} is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else "")
        elif error["type"] == "missing":
            yield f"{name} is missing"
        else:
            yield f"{name}: {error['msg'].removeprefix('Value error, ')}, got {error['input']!r}"


def _known_names() -> list[str]:
    names = [
        *Settings.model_fields,
        *(f"broker.shards.{key}" for key in ShardSettings.model_fields),
        *(f"broker.rabbitmq.{key}" for key in RabbitMqSettings.model_fields),
    ]
    return names + [f"{section}.{key}" for section in Settings.model_fields for key in fields(section)]


def fields(section: str) -> dict[str, FieldInfo]:
    """Return the keys of a table, each with its description."""
    model = Settings.model_fields[section].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{section} is not a table")
    return model.model_fields
