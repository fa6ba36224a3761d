"""What this device pins: the roots that it was flashed with, until a trust bundle is on its disk; then that bundle's.

    trust     SHA-256 of the rest, hex, and a line feed; the payload of the bundle that was taken last

One file, written whole. One that is damaged, or of another shape, counts as absent: the device is as it was flashed,
and is told again. Nothing here is proven: what is on the disk was, before it got there (trust_bundle.py).
"""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birthmark_agent import log
from birthmark_agent.errors import AgentError, Misconfigured, StorageFailed
from birthmark_agent.files import Files
from birthmark_wire.errors import DecodeError
from birthmark_wire.trust import TrustBundle

TRUST_FILE: Final = "trust"


class TrustDamaged(AgentError):
    """The bundle on the disk can't be read."""

    code = "trust-damaged"
    advice = "nothing: the roots of server.anchors count until the server sends its bundle again"


@dataclass(frozen=True, slots=True)
class Trust:
    """version: of the bundle, 0 as flashed. anchors_pem: the pinned roots, the one that issues now first. links: DER,
    certificates between roots. digest: SHA-256 of the bundle's payload, hex; empty as flashed."""

    version: int
    anchors_pem: str
    links: tuple[bytes, ...] = ()
    digest: str = ""

    @classmethod
    def of(cls, payload: bytes) -> "Trust":
        """Return what a device pins by this bundle. Raise DecodeError."""
        bundle = TrustBundle.decode(payload)
        return cls(bundle.version, anchors_pem(bundle), bundle.links, hashlib.sha256(payload).hexdigest())

    @property
    def title(self) -> str:
        """Which it is, for people."""
        return f"bundle {self.version}" if self.version else "as flashed"


def anchors_pem(bundle: TrustBundle) -> str:
    """Return the roots of a bundle, PEM."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in bundle.roots)


def read_trust(files: Files, *, flashed: Path) -> Trust:
    """Return what is pinned. flashed: `server.anchors`, PEM. Raise Misconfigured where that is what counts and can't
    be read."""
    try:
        if (taken := _read_taken(files)) is not None:
            return taken
    except (TrustDamaged, StorageFailed) as error:
        log.failed("trust-bundle-unusable", error)
    try:
        return Trust(0, flashed.read_text("ascii"))
    except OSError as error:
        raise Misconfigured(f"server.anchors: {flashed} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misconfigured(f"server.anchors: {flashed} is not PEM") from None


def write_trust(files: Files, payload: bytes) -> Trust:
    """Pin the roots of a proven bundle, durably; return them. Raise StorageFailed: then those before are pinned."""
    trust = Trust.of(payload)
    files.write(TRUST_FILE, trust.digest.encode() + b"\n" + payload)
    return trust


def _read_taken(files: Files) -> Trust | None:
    data = files.read(TRUST_FILE)
    if data is None:
        return None
    digest, _line_feed, payload = data.partition(b"\n")
    if digest != hashlib.sha256(payload).hexdigest().encode():
        raise TrustDamaged(f"{TRUST_FILE} is damaged: its first line is not the digest of the rest")
    try:
        return Trust.of(payload)
    except DecodeError as error:
        raise TrustDamaged(f"{TRUST_FILE} can't be read: {error}") from None
