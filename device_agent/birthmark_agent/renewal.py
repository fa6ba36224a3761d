"""A new operational key and its certificate.

A TPM that serves one client at a time fixes the order: the nonce first (its request opens the connection, whose
handshake signs in the TPM), then key, evidence and request in one short stay at the TPM, then the answer.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from birthmark_agent import csr
from birthmark_agent.est import EstClient
from birthmark_agent.slots import Operational
from birthmark_agent.tpm_protocol import DeviceTpm, KeyT
from birthmark_wire import tpm_templates
from birthmark_wire.binding import renewal_binding
from birthmark_wire.enrollment import Attestation


def obtain(
    est: EstClient,
    open_tpm: Callable[[], AbstractContextManager[DeviceTpm[KeyT]]],
    *,
    device_id: str,
    client_certificate: bytes,
    names: csr.Names,
    anchors: Sequence[x509.Certificate],
    again: bool,
    known: Sequence[bytes] = (),
) -> Operational:
    """Make a new key in the TPM and get its certificate.

    client_certificate: the one that the EST connection shows, DER. again: simplereenroll (with a valid LDevID), else
    simpleenroll (with the IDevID). known: CAs that may be the new one's, DER.
    Raises http's errors, TpmError, est.UnusableAnswer. Leaves nothing behind when it fails.
    """
    nonce = est.nonce()
    with open_tpm() as tpm:
        key_pem = tpm.create_operational_key()
        request, spki = build_request(
            tpm,
            key_pem,
            nonce=nonce,
            device_id=device_id,
            client_certificate=client_certificate,
            names=names,
            job_id="",
        )
    return Operational(est.enroll(request, spki=spki, anchors=anchors, again=again, known=known), key_pem, est.broker)


def build_request(
    tpm: DeviceTpm[KeyT],
    key_pem: bytes,
    *,
    nonce: bytes,
    device_id: str,
    client_certificate: bytes,
    names: csr.Names,
    job_id: str,
) -> tuple[bytes, bytes]:
    """Return a request for a key of this TPM, with the AK's evidence in it, and the key's SubjectPublicKeyInfo: DER.

    client_certificate: the one that the device shows to whom the request goes, DER. Raise TpmError.
    """
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
        return csr.build_request(key, names, evidence), key.spki


def names_of(leaf: bytes) -> csr.Names:
    """Return the names that a renewal of a certificate, DER, must ask for: the same ones (RFC 7030 §4.2.2)."""
    certificate = x509.load_der_x509_certificate(leaf)
    try:
        names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value.public_bytes()
    except x509.ExtensionNotFound:
        names = b""
    return csr.Names(certificate.subject.public_bytes(), names)
