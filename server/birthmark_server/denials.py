"""What the database denies on the broker, and the deny file that carries it there.

The database decides; the file only carries its word. By serial number, so that a device that is let in again comes back
with its next certificate; by id only for one that is denied for good.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes

from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca.authority import Authority
from birthmark_server.domain import CertificateProfile, CertificateRecord, Device, DeviceState
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import BrokerSettings

ON_THE_BROKER: Final = (
    CertificateProfile.LDEVID,
    CertificateProfile.LDEVID_SOFTWARE,
    CertificateProfile.CONTROL,
    CertificateProfile.DENY_LIST,
)
"""Whose serial numbers mean something to the gate: those who connect, and who signs its list."""

RENEWAL_POLL: Final = timedelta(seconds=5)
_SIGNER_WARNING: Final = timedelta(days=30)
_PAGE: Final = 1000
log: Final = logging.getLogger("birthmark.broker")


class DenialStore(Protocol):
    """What denials are read from: a part of store.protocol.Store."""

    def revoked_certificates(self, issuer_sha256: str, *, at: datetime) -> Iterator[CertificateRecord]: ...

    def list_devices(self, *, state: DeviceState | None = None, after: str = "", limit: int = 100) -> list[Device]: ...


def open_deny_file(broker: BrokerSettings) -> DenyFile:
    """Return the deny file that the settings name. Raise Misconfigured where they don't, or name no signer."""
    if not broker.deny_file:
        raise Misconfigured("[broker] deny_file is not set: `birthmark broker config` says where the file is")
    if not broker.deny_certificate or not broker.deny_key:
        raise Misconfigured(
            "[broker] deny_certificate and deny_key are not set: `birthmark certificate issue deny-list` makes them"
        )
    signer = DenySigner.load(Path(broker.deny_certificate), Path(broker.deny_key))
    return DenyFile(Path(broker.deny_file), signer=signer, lease_s=broker.deny_lease_s)


def read_denials(store: DenialStore, authority: Authority, *, now: datetime) -> Denials:
    """Read who is denied."""
    # Those of a revoked CA too: the broker believes it until `birthmark broker config` has taken it out.
    issuers = [issuer.sha256 for issuer in authority.issuers]
    issuers += [certificate.fingerprint(hashes.SHA256()).hex() for certificate in authority.revoked]
    serials = {
        record.serial_number
        for issuer_sha256 in issuers
        for record in store.revoked_certificates(issuer_sha256, at=now)
        if record.profile in ON_THE_BROKER
    }
    devices, after = set[str](), ""
    while page := store.list_devices(state=DeviceState.DENIED, after=after, limit=_PAGE):
        devices |= {device.device_id for device in page}
        after = page[-1].device_id
    return Denials(devices=devices, serials=serials)


def write_denials(deny_file: DenyFile, store: DenialStore, authority: Authority, *, now: datetime) -> DenyList:
    """Make the deny file exactly what the database says; return it. The database is read under the file's lock: a
    revocation at the same moment is in what was read, or is added afterwards."""
    return deny_file.replace(lambda: read_denials(store, authority, now=now))


class LeaseKeeper:
    """Renews the deny file's lease, so that the gate goes on letting devices in. `refresh` is to be called every
    RENEWAL_POLL, by each process of the server: whoever comes first does it.

    A file that is missing or damaged is written anew, as the database has it.
    """

    def __init__(
        self, *, deny_file: DenyFile, store: DenialStore, authority: Authority, now: Callable[[], datetime]
    ) -> None:
        self._deny_file = deny_file
        self._store = store
        self._authority = authority
        self._now = now
        self._said = ""

    def refresh(self) -> None:
        """Do what is due. What fails is logged once, and tried again the next time."""
        try:
            self._renew()
        except OSError as error:
            self._say("deny lease not renewed", f"{error.filename or self._deny_file.path}: {error.strerror}")
        else:
            self._said = ""

    def _renew(self) -> None:
        try:
            if not self._deny_file.renewal_due():
                return
            denied = self._deny_file.renew()
        except (FileNotFoundError, DenyFileMalformed) as error:
            denied = write_denials(self._deny_file, self._store, self._authority, now=self._now())
            log.warning("deny list written anew", extra={"fields": {"version": denied.version, "because": str(error)}})
        left = self._deny_file.signer.not_after - self._now()
        log.log(
            logging.WARNING if left < _SIGNER_WARNING else logging.INFO,
            "deny lease renewed",
            extra={
                "fields": {
                    "version": denied.version,
                    "entries": len(denied.entries),
                    "lease_s": denied.lease.until_s - denied.lease.issued_s,
                    "signer_days_left": left.days,
                }
            },
        )

    def _say(self, event: str, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.error(event, extra={"fields": {"reason": reason}})
