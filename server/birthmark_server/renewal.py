"""How a device on record gets its next operational certificate: the core of EST, without HTTP.

    enroll()    with the birth certificate (IDevID): the first LDevID, and the way home when the last one has expired
    reenroll()  with a living operational certificate: the same names, a new key; also for a job, where the broker is
                out of the device's reach

renew_for_job() is the same over MQTT (rotation/service.py).

A key is certified once: neither the birth key nor that of any earlier certificate, revoked ones included, will do. A
client whose answer was lost makes another key; the certificate that nobody got expires.

Which profile is fixed by the device's record, never by the request. A device with TPM evidence on record must bring
evidence for each new key: a TPM2_Certify by the AK on record over a fresh nonce of this device. A software device
(`sw-` ids, put on record by an operator) brings none, and never gets more than that; a device once attested never
becomes one.

Trusts the web room for who calls (certificate looked up and checked for this very request), attestation for the proof,
the store for one-use of nonces and keys, for the quota and for revocation, which it checks again as it commits.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.attestation.csr import TpmCertifyStatement, VerifiedCsr, verify_csr
from birthmark_server.attestation.errors import AttestBinding, CsrEvidenceMissing
from birthmark_server.attestation.verify import verify_new_key
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import SOFTWARE_PREFIX
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import LDevIdRequest
from birthmark_server.domain import (
    Assurance,
    Caller,
    CertificateProfile,
    CertificateRecord,
    Device,
    DeviceState,
    EstNonce,
    Evidence,
)
from birthmark_server.errors import Refused
from birthmark_server.jobs import Job, JobEvent, after
from birthmark_server.refusals import RefusalBook
from birthmark_server.store.errors import UnknownDevice
from birthmark_server.store.protocol import Issuance
from birthmark_server.tpm.attest import parse_attest
from birthmark_server.tracing import NO_TRACE, Tracer, of_issuance
from birthmark_wire import ids
from birthmark_wire.binding import renewal_binding
from birthmark_wire.est import NONCE_BYTES, NonceAnswer

NameCheck = Callable[[VerifiedCsr, Device, CertificateRecord | None], None]


class NamesChanged(Refused):
    """The request asks for other names than the device's."""

    code = "names-changed"


class EvidenceUnwanted(Refused):
    """This device has no TPM on record, so there is nothing that its evidence could be checked against."""

    code = "evidence-unwanted"


class NotASoftwareDevice(Refused):
    """Devices without TPM evidence have ids that begin with `sw-`, and no others."""

    code = "not-a-software-device"


@dataclass(frozen=True, slots=True)
class RenewalPolicy:
    """What the operator sets."""

    ldevid_lifetime: timedelta = timedelta(days=30)
    nonce_ttl: timedelta = timedelta(minutes=5)
    most_per_day: int = 24


class RenewalStore(Protocol):
    """What a renewal reads and writes: a part of store.protocol.Store, which says what each promises."""

    def add_est_nonce(self, nonce: EstNonce) -> None: ...

    def est_nonces(self, device_id: str, *, at: datetime) -> list[bytes]: ...

    def commit_issuance(self, issuance: Issuance) -> None: ...

    def get_device(self, device_id: str) -> Device: ...

    def add_software_device(self, device: Device) -> None: ...


class RenewalJobs(Protocol):
    """The part of store.job_protocol.JobStore that a renewal for a job needs."""

    def open_job(self, device_id: str) -> Job | None: ...

    def commit_job_issuance(self, issuance: Issuance, job: Job, changed: Job) -> None: ...


class RenewalService:
    """EST's operations. now: UTC. random: n -> n unpredictable bytes."""

    def __init__(
        self,
        *,
        store: RenewalStore,
        jobs: RenewalJobs,
        authority: Authority,
        policy: RenewalPolicy,
        refusals: RefusalBook,
        now: Callable[[], datetime],
        random: Callable[[int], bytes],
        tracer: Tracer = NO_TRACE,
    ) -> None:
        self._tracer = tracer
        self._store = store
        self._jobs = jobs
        self._authority = authority
        self._policy = policy
        self._refusals = refusals
        self._now = now
        self._random = random

    def nonce(self, caller: Caller) -> NonceAnswer:
        """Return a nonce for one renewal of the calling device."""
        device, _ = _device_of(caller)
        nonce = self._random(NONCE_BYTES)
        ttl = self._policy.nonce_ttl
        self._store.add_est_nonce(EstNonce(nonce, device.device_id, self._now() + ttl))
        return NonceAnswer(nonce, int(ttl.total_seconds()))

    def enroll(self, request: bytes, caller: Caller) -> x509.Certificate:
        """simpleenroll: return the LDevID for a PKCS #10 request, DER. Raise Malformed, Refused (recorded), Busy."""
        return self._recorded("simpleenroll", request, caller, self._check_own_names)

    def reenroll(self, request: bytes, caller: Caller) -> x509.Certificate:
        """simplereenroll: as enroll(), for the very subject and alternative names of the client certificate."""
        return self._recorded("simplereenroll", request, caller, self._check_same_names)

    def renew_for_job(
        self, request: bytes, device: Device, presented: CertificateRecord, *, job_id: str, nonce: bytes, now: datetime
    ) -> tuple[x509.Certificate, Issuance]:
        """Return the next LDevID for a job, and what is to be written before anybody gets it. Nothing is written here.

        presented: the certificate that the evidence is bound to; the caller has checked that it stands. nonce: that of
        the job, which the caller uses up with the issuance. Raise Malformed, Refused.
        """
        csr = verify_csr(request)
        self._check_same_names(csr, device, presented)
        evidence = None
        if not self._goes_without_evidence(csr, device, presented):
            evidence = verify_new_key(
                csr,
                ak_public=device.ak_public,
                nonce=nonce,
                device_id=device.device_id,
                client_certificate=presented.der,
                job_id=job_id,
            ).evidence
        certificate, record = self._issue(csr, device, now)
        return certificate, self._issuance(device, record, None, evidence, now)

    def certify_software_device(
        self, device_id: str, request: bytes, *, model: str = "", operator: str
    ) -> x509.Certificate:
        """Put a device without a TPM on record and return its first certificate: an operator's act.

        device_id: begins with `sw-`. request: its PKCS #10, DER. operator: who vouches for it. From then on the device
        renews itself by simplereenroll while its certificate lives; if it let that expire, this is its way home too.
        Raises NotASoftwareDevice, DeviceNotActive, and what a request can be refused for.
        """
        if not ids.device_id(device_id).startswith(SOFTWARE_PREFIX):
            raise NotASoftwareDevice(f"want an id that begins with {SOFTWARE_PREFIX!r}, got {device_id!r}")
        now = self._now()
        csr = verify_csr(request)
        known = self._software_device(device_id)
        device = known or _new_software_device(device_id, model, now)
        self._check_own_names(csr, device, None)
        certificate, record = self._issue(csr, device, now)
        record = replace(record, issued_by=operator)
        if known is None:
            self._store.add_software_device(device)
        evidence = Evidence("operator", "", "", (("operator", operator.encode()), ("csr", request)))
        self._store.commit_issuance(Issuance(device_id, device.epoch, record, None, evidence, now))
        return certificate

    def _software_device(self, device_id: str) -> Device | None:
        """Return the software device of that id, None if none is on record. Raise NotASoftwareDevice."""
        try:
            device = self._store.get_device(device_id)
        except UnknownDevice:
            return None
        if device.assurance is not Assurance.NONE:
            raise NotASoftwareDevice(f"{device_id} has a TPM on record")
        return device

    # -- one renewal

    def _recorded(
        self,
        door: str,
        request: bytes,
        caller: Caller,
        check_names: NameCheck,
    ) -> x509.Certificate:
        device, presented = _device_of(caller)
        try:
            with self._tracer.span(door, {"birthmark.device_id": device.device_id}):
                return self._renew(request, device, presented, check_names)
        except Refused as refused:
            self._refusals.write(
                refused,
                door=door,
                caller=caller,
                at=self._now(),
                device_id=device.device_id,
                ek_sha256=device.ek_sha256,
                evidence=request,
            )
            raise

    def _renew(
        self,
        request: bytes,
        device: Device,
        presented: CertificateRecord,
        check_names: NameCheck,
    ) -> x509.Certificate:
        now = self._now()
        csr = verify_csr(request)
        check_names(csr, device, presented)
        nonce, evidence, job = self._verify_evidence(csr, device, presented, now)
        certificate, record = self._issue(csr, device, now)
        issuance = self._issuance(device, record, nonce, evidence, now)
        state = after(job.state, JobEvent.ISSUED) if job else None
        if job and state:
            changed = replace(
                job, state=state, certificate_sha256=record.sha256, nonce=b"", nonce_expires_at=None, code="", detail=""
            )
            self._jobs.commit_job_issuance(issuance, job, changed)
        else:
            self._store.commit_issuance(issuance)
        return certificate

    def _issuance(
        self,
        device: Device,
        record: CertificateRecord,
        nonce: bytes | None,
        evidence: Evidence | None,
        now: datetime,
    ) -> Issuance:
        most = self._policy.most_per_day
        return Issuance(device.device_id, device.epoch, record, nonce, evidence, now, most)

    def _check_own_names(self, csr: VerifiedCsr, device: Device, _presented: CertificateRecord | None) -> None:
        """The certificate's names come from the record; what the request asks for may only agree with them."""
        asked = x509.load_der_x509_csr(csr.encoded).subject
        ours = list(self._authority.namespace.subject(NameOID.COMMON_NAME, device.device_id))
        if any(attribute not in ours for attribute in asked) or len(list(asked)) > len(ours):
            raise NamesChanged(f"want subject CN={device.device_id}, got {asked.rfc4514_string()[:200]!r}")
        uri = ids.device_uri(self._authority.namespace.trust_domain, device.device_id)
        expected = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]).public_bytes()
        if csr.subject_alt_name not in (b"", expected):
            raise NamesChanged(f"want no subject alternative name, or the URI {uri} alone")

    def _check_same_names(self, csr: VerifiedCsr, device: Device, presented: CertificateRecord | None) -> None:
        """RFC 7030 §4.2.2: subject and alternative names are identical to the certificate's that is renewed."""
        if presented is None:
            raise ValueError("a renewal has a certificate that it renews")
        old = x509.load_der_x509_certificate(presented.der)
        if csr.subject != old.subject.public_bytes():
            raise NamesChanged(f"want the subject of the certificate, {old.subject.rfc4514_string()!r}, byte for byte")
        alt_name = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if csr.subject_alt_name != alt_name.public_bytes():
            raise NamesChanged(f"want the subject alternative name of {device.device_id}'s certificate")

    def _goes_without_evidence(self, csr: VerifiedCsr, device: Device, presented: CertificateRecord) -> bool:
        """Return whether it is a software device that shows none. Raise EvidenceUnwanted, CsrEvidenceMissing."""
        software = _is_software(device, presented)
        if software and csr.statement is not None:
            raise EvidenceUnwanted(f"{device.device_id} has no TPM on record")
        if not software and csr.statement is None:
            raise CsrEvidenceMissing(f"the keys of {device.device_id} live in a TPM: want id-aa-attestation")
        return software

    def _verify_evidence(
        self,
        csr: VerifiedCsr,
        device: Device,
        presented: CertificateRecord,
        now: datetime,
    ) -> tuple[bytes | None, Evidence | None, Job | None]:
        """Return the nonce that the evidence used up, what to keep of it, and the device's job that it was made for;
        all None for a software device."""
        if self._goes_without_evidence(csr, device, presented) or csr.statement is None:
            return None, None, None
        nonce, job = self._nonce_of(csr, csr.statement, device, presented, now)
        verified = verify_new_key(
            csr,
            ak_public=device.ak_public,
            nonce=nonce,
            device_id=device.device_id,
            client_certificate=presented.der,
            job_id=job.job_id if job else "",
        )
        return nonce, verified.evidence, job

    def _nonce_of(
        self,
        csr: VerifiedCsr,
        statement: TpmCertifyStatement,
        device: Device,
        presented: CertificateRecord,
        now: datetime,
    ) -> tuple[bytes, Job | None]:
        """Return which of the device's living nonces the evidence claims to be over, and for which job, if any.

        EST has no field that says so, so each is tried: first without a job, as every renewal of a device's own is,
        then with its open one, whose command came before its broker was out of reach. A match proves nothing yet: the
        statement is verified after this, and the nonce is consumed with the issuance.
        """
        said = parse_attest(statement.attest).extra_data
        nonces = self._store.est_nonces(device.device_id, at=now)
        if (nonce := _matching(said, nonces, csr, device, presented, "")) is not None:
            return nonce, None
        job = self._jobs.open_job(device.device_id)
        if job and (nonce := _matching(said, nonces, csr, device, presented, job.job_id)) is not None:
            return nonce, job
        raise AttestBinding("the evidence is not over a living nonce of this device, this key, names and certificate")

    def _issue(self, csr: VerifiedCsr, device: Device, now: datetime) -> tuple[x509.Certificate, CertificateRecord]:
        issuer = self._authority.fleet
        tpm_backed = device.assurance is not Assurance.NONE
        with self._tracer.span("issue", {"birthmark.device_id": device.device_id}) as span:
            token = issuer.prepare(
                LDevIdRequest(public_key=csr.key, device_id=device.device_id, tpm_backed=tpm_backed),
                now=now,
                lifetime=self._policy.ldevid_lifetime,
            )
            certificate = issuer.issue(token)
            span.note(of_issuance(issuer.name, token.profile, token.serial_number))
        record = to_record(certificate, issuer=issuer, profile=token.profile, device_id=device.device_id, issued_at=now)
        return certificate, record


def _new_software_device(device_id: str, model: str, now: datetime) -> Device:
    return Device(
        device_id=device_id,
        serial="",
        model=model,
        batch="",
        state=DeviceState.ACTIVE,
        epoch=1,
        assurance=Assurance.NONE,
        ek_sha256="",
        other_ek_sha256=(),
        ak_public=b"",
        birth_spki_sha256="",
        enrolled_at=now,
    )


def _device_of(caller: Caller) -> tuple[Device, CertificateRecord]:
    """Return the calling device and its certificate; the door has seen to it that there is one."""
    if caller.device is None or caller.certificate is None:
        raise ValueError("EST's doors let only devices in")
    return caller.device, caller.certificate


def _matching(
    said: bytes,
    nonces: Sequence[bytes],
    csr: VerifiedCsr,
    device: Device,
    presented: CertificateRecord,
    job_id: str,
) -> bytes | None:
    """Return the nonce with which the evidence's binding is what it `said`, None where there is none."""
    for nonce in nonces:
        binding = renewal_binding(
            nonce=nonce,
            device_id=device.device_id,
            client_certificate_sha256=bytes.fromhex(presented.sha256),
            spki=csr.spki,
            subject=csr.subject,
            subject_alt_name=csr.subject_alt_name,
            job_id=job_id,
        )
        if hmac.compare_digest(binding, said):
            return nonce
    return None


def _is_software(device: Device, presented: CertificateRecord) -> bool:
    """Return whether the device goes without evidence: record, id and certificate must all say so."""
    says = {
        device.assurance is Assurance.NONE and not device.ek_sha256,
        device.device_id.startswith(SOFTWARE_PREFIX),
        presented.profile is CertificateProfile.LDEVID_SOFTWARE,
    }
    if len(says) != 1:
        raise NotASoftwareDevice(f"{device.device_id}: its record, id and certificate disagree on whether it has a TPM")
    return says.pop()
