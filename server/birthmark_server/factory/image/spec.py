"""What image is asked for. Checked here, before anything is fetched: no build ends in a misspelt option."""

import ipaddress
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.factory.image.arch import ARCHS, Arch
from birthmark_server.factory.image.errors import WrongOption
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

_UUIDS: Final = uuid.UUID("7d0a9f5e-6b1c-5c5e-9a0e-2f4b8f6f1c55")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~-]{0,31}", re.ASCII)
_PACKAGE: Final = re.compile(r"linux-image-[a-z0-9.+-]{1,64}", re.ASCII)
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signing:
    """A key of the firmware's list db and its certificate, PEM: what a boot file is signed with."""

    key: Path
    certificate: Path


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """One image. anchors: PEM of the roots that its devices trust. kernel: the Debian package that
    depends on the newest one. hosts: (name, address) of servers that no name
    service knows, as on a factory's own network. agent_toml: more lines for the agent's settings."""

    server: str
    anchors: bytes
    model: str
    arch: Arch
    version: str
    kernel: str
    hosts: tuple[tuple[str, str], ...] = ()
    signing: Signing | None = None
    agent_toml: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """What it says of itself in /etc/os-release."""
        return f"{self.model} {self.version} ({self.arch.debian})"

    def uuid(self, part: str) -> uuid.UUID:
        """Return the UUID of a part: the same for the same image, another for each version."""
        return uuid.uuid5(_UUIDS, "\n".join((self.model, self.version, self.arch.debian, part)))


def read_spec(
    *,
    server: str,
    anchors: Path,
    model: str,
    arch: str,
    version: str,
    kernel: str = "",
    hosts: Sequence[str] = (),
    signing: Signing | None = None,
    agent_toml: Path | None = None,
) -> ImageSpec:
    """Check what was typed, or raise WrongOption, naming the option. hosts: NAME=ADDRESS each. kernel: empty for
    that of virtual machines."""
    if arch not in ARCHS:
        raise WrongOption(f"--arch: want one of {', '.join(ARCHS)}, got {arch!r}")
    if not _VERSION.fullmatch(version):
        raise WrongOption(f"--version: want letters, digits and .+~-, at most 32, got {version!r}")
    if kernel and not _PACKAGE.fullmatch(kernel):
        raise WrongOption(f"--kernel: want a Debian package, as linux-image-{arch}, got {kernel!r}")
    try:
        ids.printable_name(model, field="--model")
    except DecodeError as error:
        raise WrongOption(str(error)) from None
    return ImageSpec(
        server=_server(server),
        anchors=_anchors(anchors),
        model=model,
        arch=ARCHS[arch],
        version=version,
        kernel=kernel or ARCHS[arch].kernel,
        hosts=tuple(_host(line) for line in hosts),
        signing=signing,
        agent_toml=agent_toml.read_text(encoding="utf-8") if agent_toml else "",
    )


def _server(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port or 443
        host = _host_name(parts.hostname or "")
    except ValueError:
        raise WrongOption(f"--server: want https://HOST:PORT, got {url!r}") from None
    wanted = {f"https://{host}:{port}", f"https://{host}"}
    if url.rstrip("/").lower() not in wanted:
        raise WrongOption(f"--server: want https://HOST:PORT, got {url!r}")
    return f"https://{host}:{port}"


def _anchors(path: Path) -> bytes:
    """Return the certificates, and nothing else of the file. The image is read by everyone: a key must not slip in."""
    data = path.read_bytes()
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        raise WrongOption(f"--anchors: {path} has no certificate in PEM; want the installation's root.pem") from None
    for certificate in found:
        try:
            authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            authority = False
        if not authority:
            name = certificate.subject.rfc4514_string()
            raise WrongOption(f"--anchors: {path}: {name} is no CA's certificate; want the installation's root.pem")
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found)


def _host(line: str) -> tuple[str, str]:
    name, _, address = line.partition("=")
    try:
        return _host_name(name), str(ipaddress.ip_address(address))
    except ValueError:
        raise WrongOption(f"--host: want NAME=ADDRESS, as enroll.example=192.0.2.7, got {line!r}") from None


def _host_name(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError(name)
    return name
