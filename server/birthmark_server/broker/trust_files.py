"""The CA files beside the deny file: checked, then put in place, for a broker that runs.

    fleet-ca.pem, infra-ca.pem   read by the gate within a second: who is a device, who is a control identity
    ca-bundle.pem                read by Mosquitto when it starts: what its TLS layer builds chains to

Rules: nothing is written before all of it stands. Each file is replaced whole and is on the disk when this returns;
what would not change is not written. Writers take turns by a lock beside the files, as they do for the deny file.
"""

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.broker.denyfile import write_durably
from birthmark_server.errors import Misconfigured

ISSUERS_MOST: Final = 16
"""Of each kind: server/mosquitto_gate/issuers.h."""

FLEET_FILE: Final = "fleet-ca.pem"
INFRA_FILE: Final = "infra-ca.pem"
BUNDLE_FILE: Final = "ca-bundle.pem"
_LOCK_FILE: Final = "trust.lock"
_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class TrustSet:
    """What a broker goes by. roots: to which its TLS layer builds chains. fleet, infra: CAs below them, that make
    devices and control identities. links: certificates that one of the roots signed for another's name and key."""

    roots: tuple[x509.Certificate, ...]
    fleet: tuple[x509.Certificate, ...]
    infra: tuple[x509.Certificate, ...]
    links: tuple[x509.Certificate, ...] = ()

    @classmethod
    def checked(
        cls,
        *,
        roots: Sequence[x509.Certificate],
        fleet: Sequence[x509.Certificate],
        infra: Sequence[x509.Certificate],
        links: Sequence[x509.Certificate] = (),
    ) -> "TrustSet":
        """Raise Misconfigured for a set by which a broker would lock honest clients out, or mix them up."""
        given = cls(tuple(roots), tuple(fleet), tuple(infra), tuple(links))
        for name, issuers in (("fleet", given.fleet), ("infra", given.infra)):
            if not 1 <= len(issuers) <= ISSUERS_MOST:
                raise Misconfigured(f"{name}: want 1 to {ISSUERS_MOST} CA certificates, got {len(issuers)}")
        for name, certificates in (("roots", given.roots), *given._below_roots()):
            for certificate in certificates:
                if not _is_ca(certificate):
                    raise Misconfigured(f"{name}: {_title(certificate)} is not a CA's certificate")
        if not given.roots or not all(_issued(root, root) for root in given.roots):
            raise Misconfigured("roots: want at least one, each signed by itself")
        for name, certificates in given._below_roots():
            for certificate in certificates:
                if not any(_issued(certificate, root) for root in given.roots):
                    raise Misconfigured(f"{name}: none of the roots signed {_title(certificate)}")
        if {_spki(one) for one in given.fleet} & {_spki(one) for one in given.infra}:
            raise Misconfigured("a Fleet CA and an Infra CA have the same key: their certificates can't be told apart")
        return given

    def _below_roots(self) -> tuple[tuple[str, tuple[x509.Certificate, ...]], ...]:
        return ("fleet", self.fleet), ("infra", self.infra), ("links", self.links)

    def install(self, folder: Path) -> None:
        """Put the files in place in a broker's folder. Raises OSError: then some of them may be new already, each of
        them whole; the gate judges by any pair of them."""
        with _lock(folder):
            _write(folder / BUNDLE_FILE, pem((*self.roots, *self.links, *self.fleet, *self.infra)))
            _write(folder / INFRA_FILE, pem(self.infra))
            _write(folder / FLEET_FILE, pem(self.fleet))


@dataclass(frozen=True, slots=True)
class IssuersInForce:
    """By what a broker judges clients now: SHA-256 fingerprints of CA certificates, lower-case hex.

    stale: what it was given last could not be read, and it goes by what it had before.
    """

    fleet: frozenset[str]
    infra: frozenset[str]
    stale: bool = False

    @classmethod
    def of(cls, given: TrustSet) -> "IssuersInForce":
        """Return what is in force once a broker has taken a set."""
        return cls(frozenset(map(fingerprint, given.fleet)), frozenset(map(fingerprint, given.infra)))


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's DER, lower-case hex, as the gate reports it."""
    return certificate.fingerprint(SHA256()).hex()


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return a PEM file of these certificates, each once."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in dict.fromkeys(certificates))


def _write(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    write_durably(path, data, mode=_MODE)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / _LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _title(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
