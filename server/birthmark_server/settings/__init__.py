"""The TOML file of `birthmark serve`: every key, its default and what it is for.

A key that nobody knows is refused with the name it was probably meant to be: a misspelt limit would otherwise not
limit anything. Relative paths start at the folder of the file. Secrets never stand in here, only where they come from
(ca.passphrase). `example()` writes the documented file from the same descriptions, so the two can't drift apart.
"""

from birthmark_server.settings.broker import BrokerSettings, RabbitMqSettings, ShardSettings
from birthmark_server.settings.example import example
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
from birthmark_server.settings.whole import Settings, load, parse

__all__ = [
    "BrokerSettings",
    "CaSettings",
    "CrlSettings",
    "DatabaseSettings",
    "EnrollmentSettings",
    "EstSettings",
    "FrontSettings",
    "LimitSettings",
    "LogSettings",
    "OcspSettings",
    "RabbitMqSettings",
    "RefusalSettings",
    "RolloverSettings",
    "RotationSettings",
    "ServerSettings",
    "Settings",
    "ShardSettings",
    "TpmSettings",
    "TracingSettings",
    "example",
    "load",
    "parse",
]
