"""What was revoked in the database, off the broker too: the gate's deny file, which it looks at once a second.

The database comes first: it decides, and the file only carries its word (`birthmark broker sync` writes it anew). By
serial number, so that a device that is let in again comes back with its next certificate; by id only for one that is
denied for good, and for one in quarantine, whose certificates shall be good again.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives import hashes

from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.ca.authority import Authority
from birthmark_server.domain import CertificateProfile, CertificateRecord, DeviceState
from birthmark_server.errors import BirthmarkError
from birthmark_server.settings import Settings
from birthmark_server.store.protocol import Store

_ON_THE_BROKER = (CertificateProfile.LDEVID, CertificateProfile.LDEVID_SOFTWARE, CertificateProfile.CONTROL)


class BrokerNotTold(BirthmarkError):
    """It is revoked in the database, and the broker does not know it: whoever is connected may stay so."""

    code: ClassVar[str] = "broker-not-told"


def cut_off(settings: Settings, revoked: Iterable[CertificateRecord], *, denied_ids: Collection[str] = ()) -> None:
    """Deny these certificates, and the devices of these ids altogether.

    Raises BrokerNotTold, saying what to do, where the deny file is not set or can't be written. Call it last: what the
    database has decided stands either way.
    """
    serials = {record.serial_number for record in revoked if record.profile in _ON_THE_BROKER}
    if not serials and not denied_ids:
        return
    if not settings.broker.deny_file:
        raise BrokerNotTold("the broker is not told: set [broker] deny_file, or give it the next CRL")
    try:
        DenyFile(Path(settings.broker.deny_file)).add(devices=denied_ids, serials=serials)
    except (OSError, DenyFileMalformed) as error:
        raise BrokerNotTold(
            f"the broker is not told: {settings.broker.deny_file}: {error}; mend that, then: birthmark broker sync"
        ) from None


def let_back(settings: Settings, store: Store, device_id: str, *, now: datetime) -> None:
    """Take a device's id off the deny file, if it is there: the file is written anew, as the database has it.

    Raises BrokerNotTold. Call it last, as cut_off.
    """
    if not settings.broker.deny_file:
        return  # then it was never told to shut the device out
    try:
        if device_id in DenyFile(Path(settings.broker.deny_file)).read().devices:
            authority = Authority.load(Path(settings.ca.folder), passphrase=None, now=now)
            sync(settings, store, authority, now=now)
    except (OSError, DenyFileMalformed) as error:
        raise BrokerNotTold(
            f"the broker still shuts {device_id} out: {settings.broker.deny_file}: {error}; mend that, then: "
            "birthmark broker sync"
        ) from None


def sync(settings: Settings, store: Store, authority: Authority, *, now: datetime) -> DenyList:
    """Make the deny file exactly what the database says; return it. The database is read under the file's lock: a
    revocation at the same moment is in what was read, or is added afterwards."""

    # Those of a revoked CA too: the broker believes it until `birthmark broker config` has taken it out.
    issuers = [issuer.sha256 for issuer in authority.issuers]
    issuers += [certificate.fingerprint(hashes.SHA256()).hex() for certificate in authority.revoked]

    def read() -> Denials:
        serials = {
            record.serial_number
            for issuer_sha256 in issuers
            for record in store.revoked_certificates(issuer_sha256, at=now)
            if record.profile in _ON_THE_BROKER
        }
        devices = set[str]()
        for state in (DeviceState.DENIED, DeviceState.QUARANTINED):
            after = ""
            while page := store.list_devices(state=state, after=after, limit=1000):
                devices |= {device.device_id for device in page}
                after = page[-1].device_id
        return Denials(devices=devices, serials=serials)

    return DenyFile(Path(settings.broker.deny_file)).replace(read)
