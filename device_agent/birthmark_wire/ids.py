"""Names that travel: device ids, serial numbers, models, and the URI that binds an id to a trust domain.

A device id fits a PrintableString, a DN that is compared without case, an MQTT topic level and a path segment alike:
`[a-z0-9-]{1,64}`. Ids that begin with `srv-` are the infrastructure's.
"""

import re

from birthmark_wire.errors import DecodeError

RESERVED_PREFIX = "srv-"

_DEVICE_ID = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
# PrintableString (X.680 §41.4) without the characters that a DN, a CSV or a shell would trip over, and without the
# underscore, which `cryptography` 50 would encode into an invalid PrintableString.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .:/+-]{0,63}", re.ASCII)
_TRUST_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", re.ASCII)


def device_id(value: str, *, field: str = "device_id") -> str:
    """Return `value` if it is a device id; raise DecodeError if not, or if it is reserved."""
    if not _DEVICE_ID.fullmatch(value):
        raise DecodeError(f"want 1 to 64 of a-z, 0-9 and '-', got {value[:80]!r}", field=field)
    if value.startswith(RESERVED_PREFIX):
        raise DecodeError(f"ids that begin with {RESERVED_PREFIX!r} are reserved, got {value!r}", field=field)
    return value


def printable_name(value: str, *, field: str) -> str:
    """Return `value` if it can stand as a serial number, model or batch name: 1 to 64 printable characters.

    Letters, digits and ` .:/+-`, the first one a letter or a digit; raise DecodeError otherwise.
    """
    if not _NAME.fullmatch(value):
        raise DecodeError(f"want 1 to 64 letters, digits or any of ' .:/+-', got {value[:80]!r}", field=field)
    return value


def trust_domain(value: str, *, field: str = "trust_domain") -> str:
    """Return `value` if it is a SPIFFE trust domain that is also a host name; raise DecodeError otherwise.

    Source: SPIFFE-ID §2.1, narrowed to host names so that an X.509 URI name constraint (RFC 5280 §4.2.1.10) binds it.
    """
    if not _TRUST_DOMAIN.fullmatch(value):
        raise DecodeError(f"want a lower-case host name, got {value[:80]!r}", field=field)
    return value


def device_uri(domain: str, device: str) -> str:
    """Return the URI SAN of a device's operational certificate, which is its SPIFFE ID."""
    return f"spiffe://{domain}/device/{device}"
