"""Which names an installation may certify, and the constraints that hold each CA to them.

A name constraint binds only where the verifier understands the name form, and implementations differ on what an empty
constraint means: OpenSSL reads an excluded rfc822Name or URI of "" as matching nothing, Go as matching all. So these
two, where a CA has no use for them, are permitted in one place only, a domain that can't exist (RFC 2606 §2); dNSName
and iPAddress are excluded whole, which everyone reads alike.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.ca.errors import ProfileViolation
from birthmark_server.ca.profile import CA_PROFILES, CaKind
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

NO_HOST: Final = "nobody.invalid"
NO_MAILBOX: Final = f"nobody@{NO_HOST}"

_EVERY_ADDRESS: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True)
class Namespace:
    """What this installation is called. The root's operator fixes it; every CA below is held to it.

    organization: the O of every subject. trust_domain: the host of every device's URI. dns_domains, ip_networks: where
    server and broker may live; a domain covers what is below it. public_url: base of the CRLs' addresses, as
    `http://pki.example.org`; empty for none.
    """

    organization: str
    trust_domain: str
    dns_domains: tuple[str, ...] = ()
    ip_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    public_url: str = ""

    @classmethod
    def checked(
        cls,
        *,
        organization: str,
        trust_domain: str,
        dns_domains: tuple[str, ...] = (),
        ip_networks: tuple[str, ...] = (),
        public_url: str = "",
    ) -> Self:
        """Read what a person typed; raise ProfileViolation naming what can't stand."""
        try:
            ids.printable_name(organization, field="organization")
            ids.trust_domain(trust_domain)
            for domain in dns_domains:
                ids.trust_domain(domain, field="dns_domains")
            networks = tuple(ip_network(network) for network in ip_networks)
        except DecodeError as error:
            raise ProfileViolation(str(error)) from None
        except ValueError as error:
            raise ProfileViolation(f"ip_networks: {error}") from None
        url = urlsplit(public_url)
        if public_url and (url.scheme != "http" or not url.netloc or url.query or url.fragment):
            # RFC 5280 §8: a CRL is signed; fetching it over https can loop into fetching it again.
            raise ProfileViolation(f"public_url: want http://HOST[/PATH], got {public_url!r}")
        return cls(organization, trust_domain, dns_domains, networks, public_url.rstrip("/"))

    def subject(self, attribute: x509.ObjectIdentifier, value: str) -> x509.Name:
        """Return O=organization followed by one attribute."""
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organization), x509.NameAttribute(attribute, value)]
        )

    def root_subject(self) -> x509.Name:
        """Return what every root of this installation is called."""
        title = f"{self.organization} {CA_PROFILES[CaKind.ROOT].title}"
        return self.subject(NameOID.COMMON_NAME, title[:64])

    def crl_url(self, authority: str) -> str:
        """Return where the CRL of the authority of that name is served, empty without a public_url."""
        return f"{self.public_url}/crl/{authority}.crl" if self.public_url else ""

    def constraints(self, kind: CaKind) -> x509.NameConstraints:
        """Return the name constraints of a CA of this kind."""
        directory = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organization)]))
        permitted: list[x509.GeneralName] = [
            directory,
            x509.UniformResourceIdentifier(self.trust_domain if kind is CaKind.FLEET else NO_HOST),
            x509.RFC822Name(NO_MAILBOX),
        ]
        excluded: list[x509.GeneralName] = []
        hosts = kind is CaKind.INFRA
        if hosts and self.dns_domains:
            permitted += [x509.DNSName(domain) for domain in self.dns_domains]
        else:
            excluded.append(x509.DNSName(""))
        if hosts and self.ip_networks:
            permitted += [x509.IPAddress(network) for network in self.ip_networks]
        else:
            excluded += [x509.IPAddress(network) for network in _EVERY_ADDRESS]
        return x509.NameConstraints(permitted, excluded or None)
