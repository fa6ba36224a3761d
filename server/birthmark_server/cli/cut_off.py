"""What was revoked in the database, off the broker too: the gate's deny file, which it looks at once a second.

The database comes first: it decides, and the file only carries its word (`birthmark broker sync` writes it anew). By
serial number, so that a device that is let in again comes back with its next certificate; by id only for one that is
denied for good.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from birthmark_server.broker.denyfile import DenyFile, DenyList
from birthmark_server.ca.authority import Authority
from birthmark_server.cli.output import say
from birthmark_server.domain import CertificateProfile, CertificateRecord, DeviceState
from birthmark_server.settings import Settings
from birthmark_server.store.protocol import Store

_ON_THE_BROKER = (CertificateProfile.LDEVID, CertificateProfile.LDEVID_SOFTWARE, CertificateProfile.CONTROL)


def cut_off(settings: Settings, revoked: Iterable[CertificateRecord], *, denied_id: str = "") -> None:
    """Deny these certificates, and the device of that id altogether; say so where no deny file is set."""
    serials = {record.serial_number for record in revoked if record.profile in _ON_THE_BROKER}
    if not settings.broker.deny_file:
        say("the broker is not told: set [broker] deny_file, or give it the next CRL")
        return
    DenyFile(Path(settings.broker.deny_file)).add(devices={denied_id} - {""}, serials=serials)


def sync(settings: Settings, store: Store, authority: Authority, *, now: datetime) -> DenyList:
    """Make the deny file exactly what the database says; return it."""
    serials = {
        record.serial_number
        for issuer in authority.issuers
        for record in store.revoked_certificates(issuer.sha256, at=now)
        if record.profile in _ON_THE_BROKER
    }
    devices, after = set[str](), ""
    while page := store.list_devices(state=DeviceState.DENIED, after=after, limit=1000):
        devices |= {device.device_id for device in page}
        after = page[-1].device_id
    return DenyFile(Path(settings.broker.deny_file)).replace(devices=devices, serials=serials)
