"""A factory with a real server: devices in software and emulated TPMs (swtpm) that prove themselves over HTTPS."""

import hashlib
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent import enrollment
from birthmark_agent.csr import birth_names, build_request
from birthmark_agent.http import HttpsConnection
from birthmark_agent.tpm.device import Tpm
from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable
from birthmark_server.factory.target import Born, Flashed, Progress
from birthmark_wire.enrollment import Challenge, EnrollResult
from birthmark_wire.factory import DeviceIdentity, ProvisionRecord
from birthmark_wire.tpm_templates import AK, BIRTH_KEY
from support.server import Client
from support.software_tpm import SoftwareTpm
from support.swtpm import Swtpm


@dataclass
class HttpsProver:
    """A real server, by its root's file: TPMs in software are born there."""

    port: int
    root_pem: Path

    def prove(self, tpm: SoftwareTpm, record: ProvisionRecord) -> Born:
        """A whole enrollment, on a connection of its own."""
        try:
            return self._prove(tpm)
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(f"localhost:{self.port}: {error}") from None

    def _prove(self, tpm: SoftwareTpm) -> Born:
        root = x509.load_pem_x509_certificate(self.root_pem.read_bytes())
        anchor_sha256 = hashlib.sha256(root.public_bytes(Encoding.DER)).digest()
        context = ssl.create_default_context(cafile=str(self.root_pem))
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60)
        try:
            client = Client(connection)
            begun = client.begin(tpm)
            if begun.status != 201:
                raise FactoryRefused(begun.body.decode(), server_code=begun.code)
            finished = client.finish(tpm, Challenge.decode(begun.body), anchor_sha256)
            if finished.status != 200:
                raise FactoryRefused(finished.body.decode(), server_code=finished.code)
        finally:
            connection.close()
        result = EnrollResult.decode(finished.body)
        return Born(result.device_id, result.chain[0])


@dataclass
class SwtpmTarget:
    """A device that is a TPM and nothing else: swtpm, with the agent's own code for all that it says."""

    tpm: Swtpm
    port: int
    root_pem: Path

    def flash(self, image: Path, record: ProvisionRecord, progress: Progress) -> Flashed:
        """Power on."""
        self.tpm.start()
        data = image.read_bytes()
        progress(len(data), len(data))
        return Flashed(hashlib.sha256(data).hexdigest(), len(data), timedelta())

    def identify(self, *, limit: timedelta) -> DeviceIdentity:
        """What the TPM says."""
        with Tpm.open(self.tpm.tcti) as tpm, tpm.primary(AK) as ak, tpm.primary(BIRTH_KEY) as key:
            return DeviceIdentity(
                tuple(der for _, der in tpm.endorsement_certificates()),
                tpm.ek_public("rsa2048"),
                ak.public,
                build_request(key, birth_names("UNKNOWN")),
                "swtpm/0.7",
            )

    def attest(self, *, limit: timedelta) -> Born:
        """As birthmark-agent does it."""
        anchors = x509.load_pem_x509_certificates(self.root_pem.read_bytes())
        context = ssl.create_default_context(cafile=str(self.root_pem))
        with (
            Tpm.open(self.tpm.tcti) as tpm,
            HttpsConnection("localhost", self.port, context=context, timeout_s=60) as connection,
        ):
            born = enrollment.enroll(
                connection, tpm, server_name="localhost", anchors=anchors, ek_template="", agent="bench/1"
            )
        return Born(born.device_id, born.chain[0])

    def self_test(self, *, limit: timedelta) -> Mapping[str, str]:
        """Nothing here speaks to a broker."""
        return {}

    def lock(self) -> Mapping[str, str]:
        """Power off."""
        self.tpm.stop()
        return {}

    def close(self) -> None:
        """Power off."""
        self.tpm.stop()
