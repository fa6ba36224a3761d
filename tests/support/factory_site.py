"""A factory with a real server: devices in software and emulated TPMs (swtpm) that prove themselves over HTTPS.

`StoreDesk` is a station's desk on the server's own store, through the server's own rules for work orders and entries;
devices are born by the running `birthmark serve`. So stations may be processes of their own, and be killed.
"""

import hashlib
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent import enrollment
from birthmark_agent.csr import birth_names, build_request
from birthmark_agent.http import HttpsConnection
from birthmark_agent.tpm.device import Tpm
from birthmark_server.ca.authority import Authority
from birthmark_server.domain import Caller, CertificateProfile
from birthmark_server.errors import Refused
from birthmark_server.factory.desk import FactoryRefused, Standing
from birthmark_server.factory.entries import EntryService
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.target import Born, Flashed, Progress
from birthmark_server.refusals import RefusalBook
from birthmark_server.store.errors import UnknownUnit
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.workorders import SerialBlock, WorkOrder
from birthmark_wire import jws
from birthmark_wire.enrollment import Challenge, EnrollResult
from birthmark_wire.factory import DeviceIdentity, ProvisionRecord
from birthmark_wire.tpm_templates import AK, BIRTH_KEY
from support.server import Client
from support.software_tpm import SoftwareTpm
from support.swtpm import Swtpm

STATION: Final = "st-1"


@dataclass
class StoreDesk:
    """station: its name. Blocks are asked for by number: the same request is given the same block."""

    store: SqlStore
    authority: Authority
    station: str = STATION
    service: EntryService = field(init=False)

    def __post_init__(self) -> None:
        refusals = RefusalBook(self.store)
        self.service = EntryService(self.store, self.store.workorders, self.authority, refusals, _now)

    def workorder(self, name: str) -> WorkOrder:
        """From the store."""
        return self.store.workorders.get(name)

    def take_serials(self, workorder: str, count: int, *, request: str) -> SerialBlock:
        """The next places; the same ones for the same request."""
        number = int(request.split("-")[1])
        mine = [block for block in self.store.workorders.blocks(workorder) if block.station == self.station]
        if number < len(mine):
            return mine[number]
        try:
            return self.store.workorders.take_serials(workorder, station=self.station, count=count, at=_now())
        except Refused as refused:
            raise FactoryRefused(str(refused), server_code=refused.code) from None

    def bring_entry(self, data: bytes) -> str:
        """By the server's own service."""
        entry = Entry.decode(jws.decode(data, message_type=ENTRY_TYPE).payload)
        caller = Caller(request_id="bench", source=self.station, station=self.station)
        try:
            return self.service.bring(data, entry.workorder, caller).device_id
        except Refused as refused:
            raise FactoryRefused(str(refused), server_code=refused.code) from None

    def close(self) -> None:
        """Nothing was opened."""

    def device(self, serial: str) -> Standing | None:
        """From the store."""
        try:
            found = self.store.workorders.unit(serial).device
        except UnknownUnit:
            return None
        if found is None:
            return None
        records = self.store.device_certificates(found.device_id)
        (idevid,) = [record.der for record in records if record.profile is CertificateProfile.IDEVID]
        return Standing(found.device_id, serial, found.state.value, found.last_seen_at, idevid)


@dataclass
class HttpsProver:
    """A real server, by its root's file: TPMs in software are born there."""

    port: int
    root_pem: Path

    def prove(self, tpm: SoftwareTpm, record: ProvisionRecord) -> Born:
        """A whole enrollment, on a connection of its own."""
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


def _now() -> datetime:
    return datetime.now(UTC)
