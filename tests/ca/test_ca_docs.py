"""docs/certificates.md says what the profiles say: its tables are drawn from them.

`python tests/ca/test_ca_docs.py` from the root of the repository draws them anew.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from birthmark_server.ca import oids
from birthmark_server.ca.extensions import ca_constants, leaf_constants, link_extensions
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CA_PROFILES, CRITICAL, LINK_PROFILE, PROFILES, AltName

DOCUMENT = Path(__file__).parents[2] / "docs" / "certificates.md"
NAMES = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSPSigning",
    NameOID.COMMON_NAME: "CN",
    NameOID.SERIAL_NUMBER: "serialNumber",
    oids.ANY_POLICY: "anyPolicy",
    **{
        value: name.lower().replace("_", "-")
        for name, value in vars(oids).items()
        if isinstance(value, x509.ObjectIdentifier) and name.startswith(("KP_", "CP_", "TCG_VERIFIED"))
    },
}
KEY = ec.derive_private_key(1, ec.SECP384R1()).public_key()
EXAMPLE = Namespace("O", "TRUST-DOMAIN", public_url="http://HOST")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def named(identifiers: Iterable[x509.ObjectIdentifier]) -> str:
    return ", ".join(NAMES[identifier] for identifier in identifiers) or "-"


def drawn() -> dict[str, str]:
    """The tables, by the name of their place in the document."""
    leaves = [
        [
            f"`{profile.name}`",
            ", ".join(profile.issued_by),
            str(profile.lifetime.days) + " days" if profile.lifetime else "99991231235959Z",
            f"O, {NAMES[profile.subject]}",
            profile.alt_name.value,
            named(profile.key_purposes),
            named(profile.policies),
            "yes" if profile.located else "no",
        ]
        for profile in PROFILES.values()
    ]
    cas = [
        [
            name,
            f"{profile.lifetime.days // 365} years" if profile.lifetime else "99991231235959Z",
            str(profile.path_length),
            named(profile.key_purposes),
            named(profile.policies),
        ]
        for name, profile in (*CA_PROFILES.items(), ("link", LINK_PROFILE))
    ]
    extensions = [
        [f"`{oid.dotted_string}`", oid._name, "yes" if CRITICAL[oid] else "no", _bearers(oid)] for oid in CRITICAL
    ]
    private = [
        [f"`{value.dotted_string.removeprefix(oids.BIRTHMARK_ARC)}`", name]
        for value, name in NAMES.items()
        if value.dotted_string.startswith(oids.BIRTHMARK_ARC)
    ]
    return {
        "leaves": table(
            ["profile", "issuer", "lifetime", "subject", "subjectAltName", "key purposes", "policies", "CRL URL"],
            leaves,
        ),
        "cas": table(["CA", "lifetime", "pathLen", "key purposes", "policies"], cas),
        "extensions": table(["OID", "extension", "critical", "in"], extensions),
        "arc": table([f"`{oids.BIRTHMARK_ARC}`", "meaning"], private),
    }


def _bearers(oid: x509.ObjectIdentifier) -> str:
    """Which certificates have an extension, when there is a URL for CRLs."""
    if oid in (x509.AuthorityKeyIdentifier.oid, x509.SubjectKeyIdentifier.oid):
        return "all"
    bearers = [
        profile.name.value
        for profile in PROFILES.values()
        if oid in [each.oid for each in leaf_constants(profile, issuer_key_id=bytes(20), crl_url="http://HOST/x.crl")]
        or (oid == x509.SubjectAlternativeName.oid and profile.alt_name is not AltName.ABSENT)
    ]
    cas = [f"{kind} CA" for kind in CA_PROFILES if oid in [each.oid for each in ca_constants(kind, EXAMPLE)]]
    if oid == x509.CRLDistributionPoints.oid:
        cas = [f"{kind} CA" for kind, profile in CA_PROFILES.items() if profile.path_length == 0]
    if oid in [each.oid for each in link_extensions(EXAMPLE, public_key=KEY, issuer_key_id=b"", issuer_name="root")]:
        cas.append("links")
    everybody = len(bearers) == len(PROFILES) and len(cas) == len(CA_PROFILES) + 1
    return "all" if everybody else ", ".join([*bearers, *cas])


def between(text: str, name: str) -> tuple[str, str, str]:
    """Split the document at the marks of one table: what is before, the table, what is after."""
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = text.partition(first)
    found, _, after = rest.partition(last)
    return before + first, found, last + after


@pytest.mark.parametrize("name", sorted(drawn()))
def test_the_document_says_what_the_profiles_say(name: str) -> None:
    _, found, _ = between(DOCUMENT.read_text(), name)
    assert found == drawn()[name] + "\n", "run python tests/ca/test_ca_docs.py"


if __name__ == "__main__":
    text = DOCUMENT.read_text()
    for name, drawing in drawn().items():
        before, _, after = between(text, name)
        text = f"{before}{drawing}\n{after}"
    DOCUMENT.write_text(text)
