"""The devices: each an emulated TPM with a folder of its own, and one `birthmark-agent run`."""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_agent.tpm.device import Tpm
from birthmark_wire.tpm_templates import EK_CERTIFICATE_NV
from demo_story.parts import Part
from support.swtpm import Swtpm, VendorCa

_MANUFACTURER: Final = x509.ObjectIdentifier("2.23.133.2.1")


@dataclass(frozen=True, slots=True)
class Model:
    """A device model: its name, and which of its TPM's EKs is a device's identity."""

    name: str
    ek_template: str


MODELS: Final = (Model("GATEWAY-2", "rsa2048"), Model("SENSOR-7", "p384"))


@dataclass
class FleetDevice:
    """One device. ek_sha256: of its EK, as the vendor's list of shipped TPMs would give it."""

    device_id: str
    serial: str
    model: Model
    folder: Path
    tpm: Swtpm
    ek_sha256: str
    manufacturer: str
    agent: Part | None = field(default=None)

    @property
    def config(self) -> Path:
        """The agent's settings file."""
        return self.folder / "agent.toml"

    def start(self, program: Path, *, url: str, root_pem: Path) -> None:
        """Write the agent's settings and start it. All that it is given is a server's name and a root to trust."""
        self.config.write_text(
            f'[server]\nurl = "{url}"\nanchors = "{root_pem}"\n\n'
            f'[tpm]\ntcti = "{self.tpm.tcti}"\n\n'
            f'[state]\nfolder = "state"\n\n'
            "[renewal]\nfloor_s = 0.0\n"
        )
        self.agent = Part(
            f"agent of {self.device_id}",
            [program, "--config", self.config, "run"],
            log=self.folder / "agent.log",
            env={"TSS2_LOG": "all+NONE"},
        )


class Factory:
    """An emulated vendor's: it makes TPMs with EK certificates, several at once, and powers them on.

    run: folder for their sockets. The threads that start the TPMs stay until close(): the TPMs die with them.
    """

    def __init__(self, folder: Path, *, run: Path) -> None:
        self.vendor = VendorCa.create(folder / "vendor")
        self._folder = folder
        self._run = run
        self._pool = ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1))
        self._tpms: list[Swtpm] = []

    def begin(self, count: int) -> "list[Future[FleetDevice]]":
        """Have `count` devices made; returns at once."""
        return [self._pool.submit(self._make, number) for number in range(1, count + 1)]

    def foreign(self) -> Swtpm:
        """Make a TPM of another vendor, and power it on."""
        tpm = VendorCa.create(self._folder / "foreign").make(self._folder / "foreign-tpm", run=self._run / "f")
        self._tpms.append(tpm)
        tpm.start()
        return tpm

    def close(self) -> None:
        """Stop the work, and power all TPMs off."""
        self._pool.shutdown(cancel_futures=True)
        for tpm in self._tpms:
            tpm.close()

    def _make(self, number: int) -> FleetDevice:
        home = self._folder / f"device-{number:03d}"
        tpm = self.vendor.make(home / "tpm", run=self._run / str(number))
        self._tpms.append(tpm)
        tpm.start()
        return _device(tpm, home, number)


def _device(tpm: Swtpm, home: Path, number: int) -> FleetDevice:
    model = MODELS[(number - 1) % len(MODELS)]
    with Tpm.open(tpm.tcti) as opened:
        certificates = dict(opened.endorsement_certificates())
    certificate = x509.load_der_x509_certificate(certificates[EK_CERTIFICATE_NV[model.ek_template]])
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return FleetDevice(
        device_id=f"{model.name.split('-')[0].lower()}-{number:03d}",
        serial=f"SN-{number:06d}",
        model=model,
        folder=home,
        tpm=tpm,
        ek_sha256=hashlib.sha256(spki).hexdigest(),
        manufacturer=_manufacturer(certificate),
    )


def _manufacturer(certificate: x509.Certificate) -> str:
    """Return the TPM manufacturer id that an EK certificate states, as `id:00001014`."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    for name in names.get_values_for_type(x509.DirectoryName):
        for attribute in name:
            if attribute.oid == _MANUFACTURER:
                return str(attribute.value)
    raise ValueError("the EK certificate names no TPM manufacturer")
