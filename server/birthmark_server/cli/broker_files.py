"""What every broker's configuration is made of, whichever broker it is: CA certificates, and the deny list."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.denyfile import DenyList
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.cli.workplace import Workplace, now
from birthmark_server.denials import open_deny_file, write_denials
from birthmark_server.errors import Misconfigured


def lacking(authority: Authority, path: Path) -> list[str]:
    """Return what should stand behind the broker's own certificate and does not: its CA's, links between roots."""
    try:
        certificate, *above = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise Misconfigured(f"{path}: want the broker's certificate in PEM, and its CA's: {error}") from None
    issuer = authority.issuer_of(certificate.public_bytes(Encoding.DER))
    wanted = [x509.load_der_x509_certificate(der) for der in authority.chain_for(issuer)]
    names = [f"the certificate of {issuer.name}", *["a link from an older root"] * (len(wanted) - 1)]
    return [name for name, one in zip(names, wanted, strict=True) if one not in above]


def of_kind(authority: Authority, kind: CaKind) -> tuple[x509.Certificate, ...]:
    """Return the certificates of the CAs of a kind that are in force."""
    return tuple(issuer.certificate for issuer in authority.in_force.issuers if issuer.kind is kind)


def write_deny_list(place: Workplace, authority: Authority, path: Path) -> DenyList:
    """Write the list that the gate starts with, as the database has it."""
    broker = place.settings().broker
    deny_file = open_deny_file(broker.model_copy(update={"deny_file": str(path)}))
    with place.store() as store:
        return write_denials(deny_file, store, authority, now=now())
