"""No URL that a device shows is ever fetched: an EK certificate may name what it likes (field notes 1.5)."""

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from birthmark_server.attestation.errors import EkUntrusted
from support.core import Core
from support.software_tpm import SoftwareTpm
from support.tpm_vendor import ek_extensions

URL = "http://127.0.0.1:9/from-the-device"
OUTGOING = ("socket.", "urllib.", "http.client.", "ftplib.", "subprocess.", "os.system", "os.posix_spawn", "os.exec")

_watched: list[list[str]] = []


def _note(event: str, _arguments: object) -> None:
    if _watched and event.startswith(OUTGOING):
        _watched[-1].append(event)


sys.addaudithook(_note)  # for good: Python has no way to take one back


@contextmanager
def nothing_goes_out() -> Iterator[None]:
    """Fail if anything in this process makes a socket, resolves a name or starts a program."""
    _watched.append([])
    try:
        yield
    finally:
        events = _watched.pop()
    assert events == []


def with_urls(extensions: Sequence[tuple[x509.ExtensionType, bool]]) -> list[tuple[x509.ExtensionType, bool]]:
    """These, and every extension by which a certificate says where something can be had."""
    where = [x509.UniformResourceIdentifier(URL)]
    access = [
        x509.AccessDescription(method, where[0])
        for method in (AuthorityInformationAccessOID.CA_ISSUERS, AuthorityInformationAccessOID.OCSP)
    ]
    points = [x509.DistributionPoint(where, None, None, None)]
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), [URL])
    return [
        *extensions,
        (x509.AuthorityInformationAccess(access), False),
        (x509.CRLDistributionPoints(points), False),
        (x509.FreshestCRL(points), False),
        (x509.CertificatePolicies([policy]), False),
        (x509.UnrecognizedExtension(ExtensionOID.SUBJECT_INFORMATION_ACCESS, b"\x30\x00"), False),
    ]


def with_url_certificate(core: Core) -> tuple[SoftwareTpm, str]:
    """A device on the manifest whose EK certificate is full of URLs, and its id."""
    tpm, device_id = core.listed()
    key = tpm.ek.public_key()
    certificate = core.site.vendor.issue_ek(key, extensions=with_urls(ek_extensions(key)))
    return replace(tpm, ek_certificates=(certificate,)), device_id


def test_the_watch_sees_what_goes_out() -> None:
    with pytest.raises(AssertionError, match=r"socket\.getaddrinfo"), nothing_goes_out():
        socket.getaddrinfo("127.0.0.1", 9)


def test_a_device_is_born_and_renewed_without_a_look_at_its_urls(core: Core) -> None:
    tpm, device_id = with_url_certificate(core)
    with nothing_goes_out():
        core.renew(tpm, core.first_ldevid(tpm, core.enroll(tpm), device_id), device_id)


def test_a_missing_intermediate_is_not_fetched_from_where_the_certificate_says(core: Core) -> None:
    tpm, _ = with_url_certificate(core)
    with nothing_goes_out(), pytest.raises(EkUntrusted):
        core.begin(replace(tpm, ek_chain=()))
