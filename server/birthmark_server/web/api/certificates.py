"""One certificate, by as few digits of its SHA-256 as name it."""

import re
from typing import Final, Protocol

from birthmark_server.domain import CertificateRecord
from birthmark_server.errors import Malformed
from birthmark_server.store.errors import UnknownCertificate

_MOST_NAMED: Final = 5


class CertificateList(Protocol):
    """What a certificate is found in: a part of store.protocol.Store."""

    def list_certificates(self, *, profile: str = "", after: str = "", limit: int = 100) -> list[CertificateRecord]:
        """By pages, ordered by sha256."""


def before_prefix(digits: str) -> str:
    """Return behind which hash a listing must begin to come upon those that begin so: no hash lies between the prefix
    with its last digit one lower and f behind, and the prefix."""
    return f"{int(digits, 16) - 1:0{len(digits)}x}".ljust(64, "f") if digits and int(digits, 16) else ""


def find_certificate(store: CertificateList, prefix: str) -> CertificateRecord:
    """Return the one certificate whose SHA-256 begins so (8 to 64 hex digits, colons allowed).

    Raise UnknownCertificate if none does, Malformed naming them if several do.
    """
    digits = prefix.lower().replace(":", "")
    if not re.fullmatch("[0-9a-f]{8,64}", digits):
        raise Malformed(f"want 8 to 64 hex digits of a certificate's SHA-256, got {prefix[:80]!r}")
    page = store.list_certificates(after=before_prefix(digits), limit=_MOST_NAMED + 1)
    found = [record for record in page if record.sha256.startswith(digits)]
    if not found:
        raise UnknownCertificate(f"no certificate whose SHA-256 begins with {digits} was issued here")
    if len(found) > 1:
        named = ", ".join(f"{record.sha256} ({record.device_id or record.subject})" for record in found[:_MOST_NAMED])
        more = " and more" if len(found) > _MOST_NAMED else ""
        raise Malformed(f"{digits} is ambiguous: {named}{more}; give more digits")
    return found[0]
