"""MQTT topics of one device. Up is from the device, down is to it; nobody else may use either.

Below `app/NAME/` of each branch the device's applications have their own; the server neither hears nor uses those: its
subscription ends one level below `up`.
"""

from typing import Final

UP: Final = ("hello", "status", "ack", "csr", "active", "trust")
DOWN: Final = ("cmd", "nonce", "cert", "broker", "trust")
APPLICATIONS: Final = "app"
SERVER_SUBSCRIPTION: Final = "$share/birthmark/devices/+/up/+"


def up(device_id: str, leaf: str) -> str:
    """Return the topic on which `device_id` publishes `leaf`."""
    return f"devices/{device_id}/up/{leaf}"


def down(device_id: str, leaf: str) -> str:
    """Return the topic on which `device_id` receives `leaf`."""
    return f"devices/{device_id}/down/{leaf}"
