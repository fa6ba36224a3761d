"""What the database says of the devices at a broker that can't tell by itself: broker.rabbitmq.Records, and more.

RabbitMQ knows a device's name and its certificate's validity, and nothing else. Whose a certificate is, and whether a
device may come at all, is asked here; and the CRLs are made from the same records.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509

from birthmark_server.broker.rabbitmq_config import write_crls
from birthmark_server.broker.trust_files import fingerprint
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile, CertificateRecord, Device, DeviceState
from birthmark_server.store.errors import StoreBusy, StoreFailed, UnknownDevice

_OPERATIONAL: Final = (CertificateProfile.LDEVID, CertificateProfile.LDEVID_SOFTWARE)
_OUT: Final = (DeviceState.DENIED, DeviceState.QUARANTINED)
_MOST_KNOWN: Final = 100_000
_log: Final = logging.getLogger(__name__)


class DeviceStore(Protocol):
    """The part of store.protocol.Store that is read."""

    def get_device(self, device_id: str) -> Device: ...

    def device_certificates(self, device_id: str) -> list[CertificateRecord]: ...

    def certificate_holder(self, issuer_sha256: str, serial_number: str) -> str: ...


class StoreRecords:
    """See Records. make_crls: web.crl.CrlPublisher.make_anew. crl_folder: where the nodes look for CRLs."""

    def __init__(
        self,
        *,
        store: DeviceStore,
        authority: Authority,
        make_crls: Callable[[Collection[str]], list[bytes]],
        crl_folder: Path,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._authority = authority
        self._make_crls = make_crls
        self._crl_folder = crl_folder
        self._now = now
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, datetime, datetime], str] = OrderedDict()

    @property
    def trust_domain(self) -> str:
        """Of the names of our devices."""
        return self._authority.namespace.trust_domain

    def shut_out(self, device_id: str) -> str:
        """Return why a device may not come, as RabbitDoor asks; empty if it may. While the database can't be read, the
        deny list alone decides, as it does in Mosquitto's gate."""
        try:
            if self._store.get_device(device_id).state in _OUT:
                return "device-denied"
            if not any(self._is_good(record) for record in self._store.device_certificates(device_id)):
                return "no-certificate"
        except UnknownDevice:
            return "unknown-device"
        except (StoreFailed, StoreBusy) as error:
            _log.warning("rabbitmq: the deny list alone decides", extra={"fields": {"reason": str(error)}})
        return ""

    def _is_good(self, record: CertificateRecord) -> bool:
        return record.profile in _OPERATIONAL and record.revoked_at is None and self._now() < record.not_after

    def serial_of(self, device_id: str, not_before: datetime, not_after: datetime) -> str:
        """See Records. What was found once is remembered: every connection is looked at every second."""
        wanted = (device_id, not_before, not_after)
        with self._lock:
            if wanted in self._known:
                self._known.move_to_end(wanted)
                return self._known[wanted]
        found = [
            record.serial_number
            for record in self._store.device_certificates(device_id)
            if record.profile in _OPERATIONAL and (record.not_before, record.not_after) == wanted[1:]
        ]
        if len(found) != 1:
            return ""
        with self._lock:
            self._known[wanted] = found[0]
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return found[0]

    def device_of(self, serial: str) -> str:
        """See Records."""
        fleet = (issuer for issuer in self._authority.issuers if issuer.kind is CaKind.FLEET)
        holders = (self._store.certificate_holder(issuer.sha256, serial) for issuer in fleet)
        return next((holder for holder in holders if holder), "")

    def write_crls(self, fleet: Sequence[x509.Certificate]) -> None:
        """See Records. The lists are those that are served by HTTP as well."""
        crls = self._make_crls({fingerprint(one) for one in fleet})
        if len(crls) < len(fleet):
            _log.error("a Fleet CA of the broker is none of ours: its devices are refused")
        with self._lock:
            write_crls(self._crl_folder, crls)
