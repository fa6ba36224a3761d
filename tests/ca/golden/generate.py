"""Make the golden certificates anew: `python tests/ca/golden/generate.py` from the root of the repository.

`tbs.json` holds, for each profile, the to-be-signed bytes that fixed inputs give, in hexadecimal. The CAs' certificates
beside it are fixed too, their private keys were thrown away when they were made: nothing here can sign.
`without-roles/` is an Infra CA, and its root, from before operators had roles: it is never made anew. `links/` holds
two roots of one name with the links between them, and the to-be-signed bytes of a link that fixed inputs give. The
roots outside of it are from before there were links. Look at the difference before you commit one: it is what every
verifier in the field will see.
"""

import json
import tempfile
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca.ca_certificate import read_certificate
from birthmark_server.ca.ceremony import demo_init
from birthmark_server.ca.cross_sign import cross_sign
from birthmark_server.ca.extensions import link_extensions
from birthmark_server.ca.issuer import Issuer
from birthmark_server.ca.layout import link_file
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import NEVER, PROFILES, CaKind
from birthmark_server.ca.requests import IDevIdRequest, InfraRequest, LDevIdRequest, LeafRequest
from birthmark_server.ca.root_ceremony import root_init
from birthmark_server.ca.root_folder import certify
from birthmark_server.ca.signer import FileSigner, NoSigner
from birthmark_server.domain import CertificateProfile
from birthmark_server.roles import OPERATOR_PROFILES

FOLDER = Path(__file__).parent
LINKS = FOLDER / "links"
MADE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
NAMESPACE = Namespace(
    organization="Example Devices",
    trust_domain="fleet.example",
    dns_domains=("fleet.example",),
    ip_networks=(ip_network("192.0.2.0/24"),),
    public_url="http://pki.fleet.example",
)
# The base points of P-256 and P-384: valid public keys whose private key is 1.
P256 = ec.derive_private_key(1, ec.SECP256R1()).public_key()
P384 = ec.derive_private_key(1, ec.SECP384R1()).public_key()
EK_SHA256 = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"


def requests() -> dict[CertificateProfile, LeafRequest]:
    """One fixed request for each profile."""
    hosts = (("server.fleet.example",), (ip_address("192.0.2.1"),))
    infra = {
        CertificateProfile.SERVER: InfraRequest(CertificateProfile.SERVER, P256, "srv-server", *hosts),
        CertificateProfile.BROKER: InfraRequest(CertificateProfile.BROKER, P256, "srv-broker", *hosts),
        CertificateProfile.CONTROL: InfraRequest(CertificateProfile.CONTROL, P256, "srv-control"),
        CertificateProfile.COMMAND: InfraRequest(CertificateProfile.COMMAND, P256, "srv-command"),
        CertificateProfile.STATION: InfraRequest(CertificateProfile.STATION, P256, "line-3"),
        **{profile: InfraRequest(profile, P384, "alice") for profile in OPERATOR_PROFILES},
        CertificateProfile.DENY_LIST: InfraRequest(CertificateProfile.DENY_LIST, P256, "srv-deny-list"),
        CertificateProfile.OCSP: InfraRequest(CertificateProfile.OCSP, P256, "srv-ocsp"),
    }
    return {
        CertificateProfile.IDEVID: IDevIdRequest(P256, "SN-0001", EK_SHA256),
        CertificateProfile.LDEVID: LDevIdRequest(P256, "device-1", tpm_backed=True),
        CertificateProfile.LDEVID_SOFTWARE: LDevIdRequest(P384, "sw-1", tpm_backed=False),
        **infra,
    }


def prepare_all() -> dict[CertificateProfile, bytes]:
    """Return the to-be-signed bytes of every profile."""
    issuers = {kind: issuer(kind) for kind in (CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA)}
    return {
        name: issuers[PROFILES[name].issued_by[0]].prepare(request, now=NOW).tbs for name, request in requests().items()
    }


def issuer(kind: CaKind, *, folder: Path = FOLDER) -> Issuer:
    """Return the golden issuing CA, which can prepare and can't sign."""
    certificate = read_certificate(folder / f"{kind}-2026.pem")
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise TypeError(f"want an elliptic curve key in {kind}-2026.pem")
    return Issuer(
        name=f"{kind}-2026",
        kind=kind,
        certificate=certificate,
        signer=NoSigner(public_key),
        namespace=NAMESPACE,
        random=lambda size: bytes(range(0xA0, 0xA0 + size)),
    )


def make_authorities() -> None:
    """Make the CAs' certificates, and keep nothing but them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "ca"
        demo_init(folder=folder, namespace=NAMESPACE, passphrase=b"thrown away with the folder", now=MADE)
        for path in folder.glob("*.pem"):
            (FOLDER / path.name).write_bytes(path.read_bytes())


def link_tbs() -> bytes:
    """Return the to-be-signed bytes of a link: the base point of P-384 signs for that of P-256."""
    extensions = link_extensions(
        NAMESPACE, public_key=P256, issuer_key_id=bytes(range(0x40, 0x54)), issuer_name="root-2030"
    )
    return certify(
        FileSigner(ec.derive_private_key(1, ec.SECP384R1())),
        issuer=NAMESPACE.root_subject(),
        subject=NAMESPACE.root_subject(),
        public_key=P256,
        extensions=extensions,
        not_before=MADE,
        not_after=NEVER,
        random=lambda size: bytes(range(0xA0, 0xA0 + size)),
    ).tbs_certificate_bytes


def make_links() -> None:
    """Make two roots and the links between them, and keep nothing but the certificates."""
    LINKS.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        secret, made = b"thrown away with the folder", {}
        for label, name in (("", "root"), ("2030", "root-2030")):
            folder = Path(scratch) / name
            made[name] = root_init(folder=folder, namespace=NAMESPACE, passphrase=secret, now=MADE, label=label)
            (LINKS / f"{name}.pem").write_bytes(made[name].certificate.read_bytes())
        for subject, issuer in (("root", "root-2030"), ("root-2030", "root")):
            cross_sign(
                folder=Path(scratch) / issuer,
                other=made[subject].certificate,
                out=LINKS / link_file(subject, issuer),
                passphrase=secret,
                now=NOW,
            )


if __name__ == "__main__":
    if not LINKS.exists():
        make_links()
    (LINKS / "tbs.hex").write_text(link_tbs().hex() + "\n")
    if not (FOLDER / "root.pem").exists():
        make_authorities()
    golden = {name.value: tbs.hex() for name, tbs in prepare_all().items()}
    (FOLDER / "tbs.json").write_text(json.dumps(golden, indent=2) + "\n")
