"""A station's desk at a server that runs beside the test: it looks up in the database what the server knows."""

from dataclasses import dataclass

from birthmark_server.domain import CertificateProfile
from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.desk import Standing
from birthmark_server.factory.values import SerialBlock, WorkOrder
from birthmark_server.store.protocol import Store


@dataclass
class StoreDesk:
    """Where a device is; device ids are `dev-SERIAL`. Work orders and entries are the station's business, not a
    target's."""

    store: Store

    def close(self) -> None:
        """Nothing was opened."""

    def device(self, serial: str) -> Standing | None:
        """What GET /v1/stations/devices/{serial} says."""
        device_id = f"dev-{serial.lower()}"
        try:
            device = self.store.get_device(device_id)
        except BirthmarkError:
            return None
        births = [
            one.der for one in self.store.device_certificates(device_id) if one.profile is CertificateProfile.IDEVID
        ]
        return Standing(device_id, serial, device.state.value, device.last_seen_at, births[-1])

    def workorder(self, name: str) -> WorkOrder:
        raise NotImplementedError

    def take_serials(self, workorder: str, count: int, *, request: str) -> SerialBlock:
        raise NotImplementedError

    def bring_entry(self, jws: bytes) -> str:
        raise NotImplementedError
