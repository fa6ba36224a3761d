"""The kinds of values that settings have, each checked where it is read, and the table that they stand in."""

import ipaddress
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

from birthmark_wire import ids

DAY_S: Final = 86_400


def _dns_name(value: str) -> str:
    return ids.trust_domain(value, field="name")


def _endpoint(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("want HOST:PORT, as in 0.0.0.0:8443 or [::]:8443")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("want an origin, as https://qa.example.com or http://10.0.0.5:9000")
    return value


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


def _loopback_endpoint(value: str) -> str:
    host = _endpoint(value).rpartition(":")[0].strip("[]")
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError("want a loopback address and a port, as 127.0.0.1:8085")
    return value


def _loopback_url(value: str) -> str:
    parts = urlsplit(_origin(value))
    if parts.scheme != "http" or parts.port is None or not ipaddress.ip_address(parts.hostname or "").is_loopback:
        raise ValueError("want plain HTTP at a loopback address, as http://127.0.0.1:15672")
    return value


DnsName = Annotated[str, AfterValidator(_dns_name)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
LoopbackEndpoint = Annotated[str, AfterValidator(_loopback_endpoint)]
LoopbackUrl = Annotated[str, AfterValidator(_loopback_url)]


class Section(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
