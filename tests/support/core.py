"""The core without sockets: requests as bytes, callers as values, a clock that stands still."""

import itertools
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent.csr import Names, device_names
from birthmark_server.domain import Caller, CertificateProfile, Refusal
from birthmark_server.services import Services
from birthmark_server.store.protocol import Store
from birthmark_wire import ids
from birthmark_wire.enrollment import Challenge, Claim, EnrollResult
from support.server import Clock, Identity, Installation, sha256_hex
from support.software_tpm import SoftwareKey, SoftwareTpm

_NUMBERS = itertools.count(1)

STRANGER = Caller("r-1", "192.0.2.1")


def fresh_serial() -> str:
    """A serial number that no other test uses."""
    return f"SN-{next(_NUMBERS)}"


def station(name: str = "line-1") -> Caller:
    """An authenticated station."""
    return Caller("r-2", name, station=name)


@dataclass
class Core:
    """An installation's services and the devices that come to them."""

    site: Installation
    services: Services
    clock: Clock

    @property
    def store(self) -> Store:
        """The services' own store."""
        return self.services.store

    def certified_station(self, name: str) -> Caller:
        """A station with a certificate on record, as the door would say."""
        leaf = self.site.infra(CertificateProfile.STATION, name)
        found = self.store.certificate_by_sha256(sha256_hex(leaf.der))
        assert found is not None
        return Caller("r-2", name, station=name, certificate=found[0])

    def listed(self, serial: str = "") -> tuple[SoftwareTpm, str]:
        """A device on the manifest, and its id."""
        serial = serial or fresh_serial()
        return self.site.listed_device(serial), f"dev-{serial.lower()}"

    def begin(self, tpm: SoftwareTpm, caller: Caller = STRANGER, *, claim: Claim | None = None) -> Challenge:
        """The first request."""
        body = tpm.enroll_request(server_name="localhost", claim=claim).encode()
        return Challenge.decode(self.services.enrollment.begin(body, caller))

    def answer(self, tpm: SoftwareTpm, challenge: Challenge) -> bytes:
        """The body of the second request."""
        anchor = self.site.pki.authority.root.anchor_sha256
        return tpm.answer(challenge, anchor_sha256=anchor, server_name="localhost").encode()

    def finish(self, challenge: Challenge, body: bytes, caller: Caller = STRANGER) -> EnrollResult:
        """The second request."""
        return EnrollResult.decode(self.services.enrollment.finish(challenge.enrollment_id, body, caller))

    def enroll(self, tpm: SoftwareTpm, caller: Caller = STRANGER, *, claim: Claim | None = None) -> Identity:
        """Both; return the IDevID with the birth key."""
        challenge = self.begin(tpm, caller, claim=claim)
        result = self.finish(challenge, self.answer(tpm, challenge), caller)
        return Identity(result.chain, tpm.birth_key.private)

    def caller(self, identity: Identity) -> Caller:
        """Who comes with this certificate, as the door would say."""
        found = self.store.certificate_by_sha256(sha256_hex(identity.der))
        assert found is not None
        return Caller("r-3", "192.0.2.1", certificate=found[0], device=found[1])

    def names(self, device_id: str) -> Names:
        """What a first operational request asks to be called."""
        return device_names(device_id, ids.device_uri(self.site.pki.authority.namespace.trust_domain, device_id))

    def request(
        self, tpm: SoftwareTpm, by: Identity, device_id: str, names: Names | None = None
    ) -> tuple[SoftwareKey, bytes]:
        """A new key and a CSR for it with evidence over a fresh nonce."""
        key = tpm.new_operational_key()
        nonce = self.services.renewal.nonce(self.caller(by)).nonce
        csr = tpm.renewal_csr(
            key, names or self.names(device_id), nonce=nonce, device_id=device_id, client_certificate=by.der
        )
        return key, csr

    def first_ldevid(self, tpm: SoftwareTpm, idevid: Identity, device_id: str) -> Identity:
        """EST simpleenroll."""
        key, csr = self.request(tpm, idevid, device_id)
        issued = self.services.renewal.enroll(csr, self.caller(idevid))
        return Identity((issued.public_bytes(Encoding.DER),), key.private)

    def renew(self, tpm: SoftwareTpm, ldevid: Identity, device_id: str) -> Identity:
        """EST simplereenroll."""
        key, csr = self.request(tpm, ldevid, device_id, ldevid.names)
        issued = self.services.renewal.reenroll(csr, self.caller(ldevid))
        return Identity((issued.public_bytes(Encoding.DER),), key.private)

    def refusals(self, code: str) -> list[Refusal]:
        """What the book of refusals says of one code, newest first."""
        return self.store.list_refusals(code=code)
