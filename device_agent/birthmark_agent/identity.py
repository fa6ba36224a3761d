"""Who this device is: the roots it pins, its birth record, its two slots, and TLS as each of its identities.

The one place that brings together disk, TPM, clock and TLS; the flows above it (homecoming, run, trace, doctor) get
connections and contexts from here and know no file name. Every stay at the TPM is short: opened, used, closed, even for
a handshake's one signature, so that a TPM with a single client serves `run` and `doctor` at the same time. And it is
apart (apart.py): what the TPM's library and `cryptography` take of memory goes with the child.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from birthmark_agent import log, timesync
from birthmark_agent.apart import WorkLost, apart
from birthmark_agent.birth import BirthRecord
from birthmark_agent.clock import Clock, ClockState, LinuxClock, SystemClock
from birthmark_agent.errors import AgentError, IdentityDamaged, Misconfigured, TlsKeyFailed, TpmError
from birthmark_agent.files import Files
from birthmark_agent.http import HttpsConnection, split_url
from birthmark_agent.settings import Settings
from birthmark_agent.slots import Identity, Slots
from birthmark_agent.tls import TlsKey, client_context
from birthmark_agent.trust import Trust, read_trust, write_trust
from birthmark_wire import tpm_templates
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.errors import DecodeError
from birthmark_wire.est import BASE_PATH

if TYPE_CHECKING:  # heavy: imported where they are used, which is apart
    from cryptography import x509

    from birthmark_agent.est import EstClient
    from birthmark_agent.tpm.device import Tpm

BIRTH_FILE: Final = "birth.json"
_BROKER_FILE: Final = "broker.json"
_NEWBORN_FILE: Final = "newborn"
_PROBE_FILE: Final = "probe"
_PROBE_BYTES: Final = 8192


class Identities:
    """Everything that this device knows of itself. settings: where all of it is. files, system: disk and clock, if not
    the real ones."""

    def __init__(self, settings: Settings, *, files: Files | None = None, system: SystemClock | None = None) -> None:
        self.settings = settings
        self.files = files or Files.at(settings.state)
        self.slots = Slots(self.files)
        self._trust: Trust | None = None
        self.clock = Clock(
            self.files, image_time=settings.image_time, not_before=self._not_befores, system=system or LinuxClock()
        )

    def open_tpm(self) -> "Tpm":
        """Open the TPM for one piece of work, in this process."""
        from birthmark_agent.tpm.device import Tpm

        return Tpm.open(self.settings.tcti)

    @property
    def trust(self) -> Trust:
        """What is pinned now. Raise Misconfigured."""
        if self._trust is None:
            self._trust = read_trust(self.files, flashed=self.settings.server.anchors)
        return self._trust

    @property
    def anchors_pem(self) -> str:
        """The pinned roots. Raise Misconfigured."""
        return self.trust.anchors_pem

    @property
    def anchors(self) -> "list[x509.Certificate]":
        """The pinned roots: chains must end in one of them, and enrollments are bound to the first. Raise
        Misconfigured."""
        from cryptography import x509

        try:
            return x509.load_pem_x509_certificates(self.anchors_pem.encode())
        except ValueError as error:
            path = self.settings.server.anchors
            raise Misconfigured(f"server.anchors: {path} holds no certificate in PEM: {error}") from None

    def adopt(self, payload: bytes) -> None:
        """Pin the roots of a proven bundle from now on: whatever is opened afterwards is judged by them.

        Raise StorageFailed: then those before still count.
        """
        self._trust = write_trust(self.files, payload)

    def probe_disk(self) -> None:
        """Write and remove as much as an identity takes: a certificate that can't be kept is not worth asking for.

        Raise StorageFailed.
        """
        self.files.write(_PROBE_FILE, bytes(_PROBE_BYTES))
        self.files.remove(_PROBE_FILE)

    # -- the birth record

    def birth_record(self) -> BirthRecord | None:
        """Return the record from disk, or from the TPM's NV where the disk lost it; None where neither has one."""
        return self.birth_record_on_disk() or apart(self._birth_record_in_nv)

    def birth_record_on_disk(self) -> BirthRecord | None:
        """Return the record from disk; None where there is none that can be read. Asks no TPM."""
        data = self.files.read(BIRTH_FILE)
        try:
            return None if data is None else BirthRecord.decode(data)
        except IdentityDamaged as error:
            log.failed("birth-record-damaged", error)
            return None

    def keep_birth_record(self, record: BirthRecord) -> None:
        """Keep it on disk, and a copy in NV where the TPM has room for it. Raise StorageFailed."""
        self.files.write(BIRTH_FILE, record.encode())
        try:
            apart(lambda: self._write_to_nv(record))
        except (TpmError, WorkLost) as error:
            log.failed("birth-record-not-in-nv", error)  # the disk has it, and the server would give it again

    def keep_new_birth_record(self, record: BirthRecord) -> None:
        """Keep what an attestation gave. Where it is another birth than the one on disk, what the broker still holds
        under our name is not meant for us, but for a board that was swapped out, say. Raise StorageFailed."""
        known = self.birth_record_on_disk()
        if known is None or known.chain[0] != record.chain[0]:
            self.files.write(_NEWBORN_FILE, b"")  # first: without a record there is no connection that could miss it
        self.files.remove(_BROKER_FILE)  # what the record says of the broker is newer
        self.keep_birth_record(record)

    @property
    def newborn(self) -> bool:
        """Whether this birth has not had a session with the broker yet."""
        return self.files.read(_NEWBORN_FILE) is not None

    def has_a_session(self) -> None:
        """Note that the broker's session is ours from now on. Raise StorageFailed."""
        if self.newborn:
            self.files.remove(_NEWBORN_FILE)

    def restore_birth_record(self, record: BirthRecord) -> None:
        """Keep it where a copy is missing: a disk or a TPM's NV that was wiped. Raise StorageFailed."""
        try:
            in_nv = apart(self._read_from_nv)
        except (TpmError, WorkLost):
            return  # it has just served; the next time will do
        if self.files.read(BIRTH_FILE) != record.encode() or in_nv != record.to_nv():
            self.keep_birth_record(record)

    def _write_to_nv(self, record: BirthRecord) -> None:
        with self.open_tpm() as tpm:
            tpm.write_birth_certificate(record.to_nv())

    def _read_from_nv(self) -> tuple[bytes, ...]:
        with self.open_tpm() as tpm:
            return tpm.read_birth_certificate()

    def _birth_record_in_nv(self) -> BirthRecord | None:
        from birthmark_agent.enrollment import verify_birth_chain

        with self.open_tpm() as tpm:
            items = tpm.read_birth_certificate()
            if not items:
                return None
            with tpm.primary(tpm_templates.BIRTH_KEY) as key:
                spki = key.spki
        try:
            record = BirthRecord.from_nv(items)
            verify_birth_chain(record.chain, spki=spki, anchors=self.anchors, links=self.trust.links)
        except AgentError as error:
            log.failed("birth-record-in-nv-unusable", error)
            return None
        log.info("birth-record-found-in-nv", device=record.device_id)
        return record

    # -- TLS

    def anonymous_context(self) -> ssl.SSLContext:
        """Return TLS without a client certificate."""
        return self._context((), None)

    def birth_context(self, record: BirthRecord) -> ssl.SSLContext:
        """Return TLS with the IDevID; its key is opened in this process. Raise TlsKeyFailed."""
        from birthmark_agent.tpm.signer import TpmSigner

        return self._context(record.chain, TpmSigner.birth(self.settings.tcti))

    def operational_context(self, identity: Identity, key: TlsKey | None = None) -> ssl.SSLContext:
        """Return TLS with an LDevID, which signs apart. key: stands in for the identity's own. Raise TlsKeyFailed."""
        return self._context(identity.chain, key or _KeyApart(self.settings.tcti, identity))

    def _context(self, chain: tuple[bytes, ...], key: TlsKey | None) -> ssl.SSLContext:
        # Without a self-test: the handshake that follows at once would find the same, for the same one signature.
        check = self.clock.check_times()[0]
        return client_context(anchors_pem=self.anchors_pem, chain=chain, key=key, check=check, self_test=False)

    def broker_of(self, identity: Identity) -> tuple[str, str, int]:
        """Return the device id, and the broker's host and port: the settings' where they name one, else as the server
        said last: since the birth (broker.json), or in the birth record.

        Raise Misconfigured where none says.
        """
        broker, told = self.settings.broker, self._broker_told()
        host, port = broker.host or (told.host if told else ""), broker.port or (told.port if told else 0)
        if not host or not port:
            raise Misconfigured("no birth record names the broker: set mqtt.host and mqtt.port, or enroll again")
        return identity.device_id, host, port

    def keep_broker(self, told: BrokerEndpoint | None) -> None:
        """Keep where the server says that our broker is, for the next connect; None: it said nothing. Raise
        StorageFailed."""
        if told is not None and told != self._broker_told():
            self.files.write(_BROKER_FILE, told.encode())
            log.info("broker-named", broker=told)

    def _broker_told(self) -> BrokerEndpoint | None:
        data = self.files.read(_BROKER_FILE)
        try:
            if data is not None:
                return BrokerEndpoint.decode(data)
        except DecodeError as error:
            log.info("broker-file-unreadable", reason=str(error))
        record = self.birth_record_on_disk()
        return BrokerEndpoint(record.broker_host, record.broker_port) if record else None

    # -- connections to the server

    def to_server(self) -> HttpsConnection:
        """Return a connection without a client certificate, to where the settings say."""
        server = self.settings.server
        return HttpsConnection(server.host, server.port, context=self.anonymous_context(), timeout_s=server.timeout_s)

    def est_url(self) -> str:
        """Return where EST is: as the birth record says, else where the settings' server has it by custom."""
        record = self.birth_record_on_disk()
        return record.est_url if record else f"{self.settings.server.url}{BASE_PATH}"

    @contextmanager
    def to_est(self, est_url: str, context: ssl.SSLContext) -> Iterator["EstClient"]:
        """Give EST over one connection, for the length of a with block."""
        from birthmark_agent.est import EstClient

        host, port, path = split_url(est_url)
        with HttpsConnection(host, port, context=context, timeout_s=self.settings.server.timeout_s) as connection:
            yield EstClient(connection, path)

    def learn_time(self) -> None:
        """Ask the server what time it is, unless our clock is SET; its answer is signed over our nonce.

        Raise http's errors, TimeRefused.
        """
        if self.clock.state() is ClockState.SET:
            return
        check = self.clock.check_times()[-1]  # the most patient one
        context = client_context(anchors_pem=self.anchors_pem, check=check)
        self.clock.learn(apart(lambda: timesync.ask(self.settings.server, context, anchors_pem=self.anchors_pem)))
        log.info("time-learnt", now=self.clock.now())

    def try_to_learn_time(self) -> None:
        """As learn_time(); a server that can't tell leaves the clock as it is."""
        try:
            self.learn_time()
        except AgentError as error:
            log.failed("time-not-learnt", error)

    def _not_befores(self) -> list[datetime]:
        return [slot.identity.not_before for slot in self.slots.candidates()] or [datetime(1970, 1, 1, tzinfo=UTC)]


class _KeyApart:
    """The TLS key of an operational identity, each signature made apart. spki: the certificate's key, DER."""

    def __init__(self, tcti: str, identity: Identity) -> None:
        self._tcti = tcti
        self._key_pem = identity.key_pem
        self.spki = identity.spki

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        """As TpmSigner's. Raise TlsKeyFailed if the slot's key is not its certificate's, WorkLost."""
        return apart(lambda: self._sign(digest, hash_name))

    def _sign(self, digest: bytes, hash_name: str) -> bytes:
        from birthmark_agent.tpm.signer import TpmSigner

        signer = TpmSigner.operational(self._tcti, self._key_pem)
        if signer.spki != self.spki:
            raise TlsKeyFailed("the key is not the certificate's")
        return signer.sign_digest(digest, hash_name)
