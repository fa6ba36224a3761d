"""What the database denies on the broker, and the deny file that carries it there.

The database decides; the file only carries its word. By serial number, so that a device that is let in again comes back
with its next certificate; by id only for one that is denied for good, and for one in quarantine, whose certificates
shall be good again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes

from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile, Device, DeviceState, RevokedEntry
from birthmark_server.errors import Misconfigured
from birthmark_server.settings import BrokerSettings

ON_THE_BROKER: Final = (
    CertificateProfile.LDEVID,
    CertificateProfile.LDEVID_SOFTWARE,
    CertificateProfile.CONTROL,
    CertificateProfile.DENY_LIST,
)
"""Whose serial numbers mean something to the gate: those who connect, and who signs its list."""

POLL: Final = timedelta(seconds=1)
REST: Final = 30
"""How many times as long as reading the denials took they are not read again: a thirtieth of a core, while a campaign
retires one certificate after the other. 50,000 entries are read anew every few seconds then."""
_SIGNER_WARNING: Final = timedelta(days=30)
_PAGE: Final = 1000
log: Final = logging.getLogger("birthmark.broker")


class DenialStore(Protocol):
    """What denials are read from: a part of store.protocol.Store."""

    def count_revoked(self, issuer_sha256: str) -> int: ...

    def revoked_serials(
        self, issuer_sha256: str, *, profiles: Sequence[CertificateProfile], at: datetime
    ) -> Iterator[str]: ...

    def revoked_entries(self, issuer_sha256: str, *, since: datetime) -> Iterator[RevokedEntry]: ...

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
    copies = {Path(shard.deny_file) for shard in broker.shards if shard.deny_file} - {Path(broker.deny_file)}
    return DenyFile(Path(broker.deny_file), signer=signer, lease_s=broker.deny_lease_s, copies=sorted(copies))


def read_denials(store: DenialStore, authority: Authority, *, now: datetime) -> Denials:
    """Read who is denied."""
    # All that a Fleet CA issues means something to the gate, and a list of those is read from an index alone.
    fleet = {issuer.sha256 for issuer in authority.issuers if issuer.kind is CaKind.FLEET}
    serials: set[str] = set()
    for issuer_sha256 in _issuers(authority):
        if issuer_sha256 in fleet:
            serials.update(serial for serial, _, _ in store.revoked_entries(issuer_sha256, since=now))
        else:
            serials.update(store.revoked_serials(issuer_sha256, profiles=ON_THE_BROKER, at=now))
    devices = {
        device.device_id
        for state in (DeviceState.DENIED, DeviceState.QUARANTINED)
        for device in _standing(store, state)
    }
    return Denials(devices=devices, serials=serials)


def _standing(store: DenialStore, state: DeviceState) -> Iterator[Device]:
    after = ""
    while page := store.list_devices(state=state, after=after, limit=_PAGE):
        yield from page
        after = page[-1].device_id


def _issuers(authority: Authority) -> list[str]:
    """Those of a revoked CA too: the broker believes it until `birthmark broker config` has taken it out."""
    issuers = [issuer.sha256 for issuer in authority.issuers]
    return issuers + [certificate.fingerprint(hashes.SHA256()).hex() for certificate in authority.revoked]


def write_denials(deny_file: DenyFile, store: DenialStore, authority: Authority, *, now: datetime) -> DenyList:
    """Make the deny file exactly what the database says; return it. The database is read under the file's lock: a
    revocation at the same moment is in what was read, or is added afterwards."""
    return deny_file.replace(lambda: read_denials(store, authority, now=now))


class DenyFileKeeper:
    """Keeps the deny file true and its lease fresh, so that the gate goes on letting devices in. `refresh` is to be
    called every POLL, by each process of a server beside the broker: whoever comes first does what is due.

    What any process revoked, on whatever machine, is added within a second or two, and so is who is in quarantine;
    entries only ever leave by write_denials(): here, once a quarantine ends that was seen here. A file that is missing
    or damaged is written anew, as the database has it.
    """

    def __init__(
        self,
        *,
        deny_file: DenyFile,
        store: DenialStore,
        authority: Authority,
        now: Callable[[], datetime],
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deny_file = deny_file
        self._store = store
        self._authority = authority
        self._now = now
        self._stopwatch = stopwatch
        self._rested = stopwatch()
        self._revoked = -1
        self._quarantined: Mapping[str, int] = {}
        self._said = ""

    def refresh(self) -> None:
        """Do what is due. What fails is logged once, and tried again the next time."""
        try:
            self._renew()
            self._add_what_is_missing()
            self._deny_file.keep_copies()
        except OSError as error:
            self._say("deny file not kept", f"{error.filename or self._deny_file.path}: {error.strerror}")
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

    def _add_what_is_missing(self) -> None:
        """Add what another process revoked, or one that could not write the file."""
        began = self._stopwatch()
        if began < self._rested:
            return
        revoked = sum(self._store.count_revoked(issuer_sha256) for issuer_sha256 in _issuers(self._authority))
        # A quarantine revokes nothing. By epoch too: one that ended and began anew meanwhile is another one.
        quarantined = {device.device_id: device.epoch for device in _standing(self._store, DeviceState.QUARANTINED)}
        if revoked != self._revoked or quarantined != self._quarantined:
            self._add(let_back=not self._quarantined.keys() <= quarantined.keys())
        # Both were looked at before the denials were read: what came meanwhile is found the next time.
        self._revoked, self._quarantined = revoked, quarantined
        self._rested = self._stopwatch() + REST * (self._stopwatch() - began)

    def _add(self, *, let_back: bool) -> None:
        if let_back:
            denied = write_denials(self._deny_file, self._store, self._authority, now=self._now())
            log.info("deny list written anew", extra={"fields": {"version": denied.version, "because": "let back"}})
            return
        wanted = read_denials(self._store, self._authority, now=self._now())
        before = self._deny_file.read()
        denied = self._deny_file.add(  # only what is missing: checking 50,000 entries once more costs 100 ms
            devices=set(wanted.devices) - before.devices, serials=set(wanted.serials) - before.serials
        )
        if denied.version != before.version:
            added = len(denied.entries) - len(before.entries)
            log.info("deny list added to", extra={"fields": {"version": denied.version, "added": added}})

    def _say(self, event: str, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.error(event, extra={"fields": {"reason": reason}})
