"""The station's own key: it signs what the station has seen of a device (factory/entry.py)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from birthmark_server.ca.files import read_private
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.station.errors import StationSettingsBroken
from birthmark_wire import jws


@dataclass(frozen=True, slots=True)
class StationKey:
    """chain: DER, the station's own certificate first, without the root."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...]

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """Read both PEM files; raise StationSettingsBroken, or KeyUnusable where others may read the key."""
        try:
            chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        except OSError as error:
            raise StationSettingsBroken(f"{certificate}: {error.strerror}; birthmark station init makes it") from error
        except ValueError:
            raise StationSettingsBroken(f"{certificate}: want the station's certificate and its CA's in PEM") from None
        try:
            private = load_pem_private_key(read_private(key), None)
        except (ValueError, TypeError):
            raise StationSettingsBroken(f"{key}: want the station's private key in PEM, without a passphrase") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != chain[0].public_key():
            raise StationSettingsBroken(f"{key}: want the key of {certificate}, got another one")
        own = [one for one in chain if one.issuer != one.subject]
        return cls(private, tuple(one.public_bytes(Encoding.DER) for one in own))

    @property
    def certificate(self) -> x509.Certificate:
        """The station's certificate."""
        return x509.load_der_x509_certificate(self.chain[0])

    def sign(self, entry: Entry) -> str:
        """Return the entry as a JWS."""
        signed = jws.signing_input(entry.encode(), message_type=ENTRY_TYPE, chain=self.chain)
        return jws.join(signed, self.key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode("ascii")
