"""What is where in a CA folder, and its one settings file.

    authority.json   names, and the authorities with where their keys are (root.json in the root's own folder)
    root.pem         the trust anchor's certificate; root.crl: the root's CRL, DER
    root-LABEL.pem, root-LABEL.crl   those of a further root; its key is never here
    A.by.B.pem       a link: the root B certifies the root A
    NAME.key         encrypted PKCS #8, mode 0600; absent where the key is in a PKCS #11 token
    NAME.csr         the request that goes to the root; NAME.pem: the certificate that came back

    authority.next.json   the same with one more authority, until the root has signed that one's request

The settings file is written by the ceremony and read strictly.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from birthmark_server.ca import files
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused, ProfileViolation
from birthmark_server.ca.extensions import ROOT_NAME
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CaKind
from birthmark_wire.encoding import JsonObject, read_json

FORMAT: Final = 1
AUTHORITY_FILE: Final = "authority.json"
NEXT_FILE: Final = "authority.next.json"
ROOT_FILE: Final = "root.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One authority. key: `file:NAME.key`, within the folder, or a `pkcs11:` URI (RFC 7512)."""

    name: str
    kind: CaKind
    key: str


@dataclass(frozen=True, slots=True)
class Layout:
    """A settings file's contents.

    entries: those whose keys are here. demo: root and issuing CAs were made in one place, for a demonstration only.
    more_roots: names of the roots that came after the first, in the order in which they came.
    """

    namespace: Namespace
    entries: tuple[Entry, ...]
    demo: bool = False
    more_roots: tuple[str, ...] = ()

    @property
    def root_names(self) -> tuple[str, ...]:
        """The names of all roots of a CA folder, the first one first."""
        return (ROOT_NAME, *self.more_roots)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raise AuthorityBroken if the file is missing or is not exactly what `write` writes."""
        try:
            return cls._from_json(read_json(path.read_bytes()))
        except OSError as error:
            raise AuthorityBroken(f"{path}: {error.strerror}") from None
        except (ValueError, ProfileViolation) as error:  # ValueError: DecodeError, and an unknown kind
            raise AuthorityBroken(f"{path}: {error}") from None

    @classmethod
    def _from_json(cls, top: JsonObject) -> Self:
        top.integer("format", low=FORMAT, high=FORMAT)
        namespace = Namespace.checked(
            organization=top.text("organization"),
            trust_domain=top.text("trust_domain"),
            dns_domains=tuple(top.text("dns_domains", max_chars=8192).split()),
            ip_networks=tuple(top.text("ip_networks", max_chars=8192).split()),
            public_url=top.text("public_url"),
        )
        entries = []
        for item in top.members("authorities", most=1000):
            entries.append(Entry(item.text("name"), CaKind(item.text("kind")), item.text("key", max_chars=1024)))
            item.done()
        demo = top.boolean("demo")
        more_roots = tuple((top.optional_text("more_roots", max_chars=8192) or "").split())
        top.done()
        return cls(namespace, tuple(entries), demo, more_roots)

    def to_json(self) -> bytes:
        """Return the file's contents."""
        names = self.namespace
        value: dict[str, object] = {
            "format": FORMAT,
            "organization": names.organization,
            "trust_domain": names.trust_domain,
            "dns_domains": " ".join(names.dns_domains),
            "ip_networks": " ".join(str(network) for network in names.ip_networks),
            "public_url": names.public_url,
            "demo": self.demo,
            "authorities": [{"name": entry.name, "kind": entry.kind.value, "key": entry.key} for entry in self.entries],
        }
        if self.more_roots:
            value["more_roots"] = " ".join(self.more_roots)
        return (json.dumps(value, indent=2) + "\n").encode()

    def write_new(self, path: Path) -> None:
        """Write the file, never over another."""
        files.write_new(path, self.to_json())


def checked_label(label: str) -> str:
    """Return what tells an authority from others of its kind, as in `birth-2026`; raise CeremonyRefused."""
    if not label.isascii() or not label.replace("-", "").isalnum() or label != label.lower() or len(label) > 32:
        raise CeremonyRefused(f"want a label of at most 32 of a-z, 0-9 and '-', got {label!r}")
    return label


def root_name(label: str) -> str:
    """Return what a root is called: empty for an installation's first one."""
    return f"{ROOT_NAME}-{checked_label(label)}" if label else ROOT_NAME


def root_file(name: str) -> str:
    """Return the file name of a root's certificate."""
    return f"{name}.pem"


def crl_file(name: str) -> str:
    """Return the file name of a root's CRL, as in its address."""
    return f"{name}.crl"


def link_file(subject: str, issuer: str) -> str:
    """Return the file name of the link by which the root `issuer` certifies the root `subject`."""
    return f"{subject}.by.{issuer}.pem"
