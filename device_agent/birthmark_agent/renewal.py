"""A new operational key and its certificate, and the moment for it.

A TPM that serves one client at a time fixes the order: the nonce first (its request opens the connection, whose
handshake signs in the TPM), then key, evidence and request in one short stay at the TPM, then the answer.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from birthmark_agent import csr
from birthmark_agent.errors import IdentityDamaged
from birthmark_agent.est import EstClient
from birthmark_agent.settings import Renewal
from birthmark_agent.tpm_protocol import DeviceTpm, KeyT
from birthmark_wire import tpm_templates
from birthmark_wire.binding import renewal_binding
from birthmark_wire.enrollment import Attestation

_LATEST: Final = 0.98


@dataclass(frozen=True, slots=True)
class Operational:
    """A new operational identity. chain: LDevID first, CAs without the root, DER. key_pem: `TSS2 PRIVATE KEY`."""

    chain: tuple[bytes, ...]
    key_pem: bytes


def obtain(
    est: EstClient,
    open_tpm: Callable[[], AbstractContextManager[DeviceTpm[KeyT]]],
    *,
    device_id: str,
    client_certificate: bytes,
    names: csr.Names,
    anchor: x509.Certificate,
    again: bool,
    known: Sequence[bytes] = (),
    job_id: str = "",
) -> Operational:
    """Make a new key in the TPM and get its certificate.

    client_certificate: the one that the EST connection shows, DER. again: simplereenroll (with a valid LDevID), else
    simpleenroll (with the IDevID). known: CAs that may be the new one's, DER. job_id: of the command that asked for it;
    empty when the device acts by itself.
    Raises http's errors, TpmError, est.UnusableAnswer. Leaves nothing behind when it fails.
    """
    nonce = est.nonce()
    with open_tpm() as tpm:
        key_pem = tpm.create_operational_key()
        with tpm.load(key_pem) as key, tpm.primary(tpm_templates.AK) as ak:
            q = renewal_binding(
                nonce=nonce,
                device_id=device_id,
                client_certificate_sha256=hashlib.sha256(client_certificate).digest(),
                spki=key.spki,
                subject=names.subject,
                subject_alt_name=names.subject_alt_name,
                job_id=job_id,
            )
            evidence = csr.KeyEvidence(Attestation(*tpm.certify(key, ak, q)), key.public)
            request, spki = csr.build_request(key, names, evidence), key.spki
    return Operational(est.enroll(request, spki=spki, anchor=anchor, again=again, known=known), key_pem)


def device_id_of(leaf: x509.Certificate) -> str:
    """Return the one CN of an operational certificate. Raise IdentityDamaged."""
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if len(names) != 1:
        raise IdentityDamaged(f"want exactly one CN, got {leaf.subject.rfc4514_string()!r}")
    return str(names[0].value)


def names_of(certificate: x509.Certificate) -> csr.Names:
    """Return the names that a renewal of `certificate` must ask for: the same ones (RFC 7030 §4.2.2)."""
    try:
        names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value.public_bytes()
    except x509.ExtensionNotFound:
        names = b""
    return csr.Names(certificate.subject.public_bytes(), names)


def renew_at(leaf: bytes, *, not_before: datetime, not_after: datetime, renewal: Renewal) -> datetime:
    """Return when a certificate is due.

    The jitter comes from the certificate's own hash: it is the same after a restart, it needs no file, and it differs
    between devices that were born in the same second.
    """
    lifetime = (not_after - not_before).total_seconds()
    spread = int.from_bytes(hashlib.sha256(leaf).digest()[:8], "big") / 2**63 - 1.0  # -1 to 1
    part = min(renewal.fraction + spread * renewal.jitter, _LATEST)
    return not_before + timedelta(seconds=lifetime * max(part, 0.0))
