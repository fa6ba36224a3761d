"""`openssl verify`, the judge that nobody here wrote."""

import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


def verify(
    folder: Path,
    leaf: x509.Certificate,
    *,
    root: x509.Certificate,
    untrusted: Sequence[x509.Certificate] = (),
    at: datetime,
    options: Sequence[str] = (),
) -> str:
    """Return what openssl says of the path: it ends in `: OK` when valid."""
    for name, certificates in (("leaf", [leaf]), ("root", [root]), ("untrusted", untrusted)):
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        (folder / f"{name}.pem").write_bytes(pem)
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(at.timestamp()))]
    command += ["-CAfile", str(folder / "root.pem"), "-no-CApath", "-no-CAstore"]
    if untrusted:
        command += ["-untrusted", str(folder / "untrusted.pem")]
    done = subprocess.run(
        [*command, *options, str(folder / "leaf.pem")], capture_output=True, text=True, timeout=30, check=False
    )
    return (done.stdout + done.stderr).strip()
