"""Stand-ins for the two things that the agent's flows talk to: a TPM in software, a connection without a socket."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent.errors import KeyNotOfThisTpm
from birthmark_agent.http import Answer, Problem, Refused
from birthmark_server.domain import Caller
from birthmark_server.errors import BirthmarkError
from birthmark_server.web.est import certs_only
from birthmark_wire import est
from birthmark_wire.enrollment import ACTIVATION_SUFFIX, ENROLLMENTS_PATH, JSON_MIME
from birthmark_wire.tpm_templates import AK, BIRTH_KEY, EK_CERTIFICATE_NV
from support.core import STRANGER, Core
from support.server import Identity
from support.software_tpm import SoftwareKey, SoftwareTpm


@dataclass(frozen=True)
class FakeKey:
    """A loaded key (tpm_protocol.DeviceKey)."""

    key: SoftwareKey

    @property
    def public(self) -> bytes:
        return self.key.public.encode()

    @property
    def name(self) -> bytes:
        return self.key.public.name()

    @property
    def spki(self) -> bytes:
        return self.key.spki

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        return self.key.sign_digest(digest, hash_name)


@dataclass
class FakeTpm:
    """tpm_protocol.DeviceTpm over support.software_tpm. loaded: keys in slots now; most_loaded: ever at once."""

    tpm: SoftwareTpm
    loaded: int = 0
    most_loaded: int = 0
    nv: tuple[bytes, ...] = ()
    keys: dict[bytes, SoftwareKey] = field(default_factory=dict)

    def endorsement_certificates(self) -> list[tuple[int, bytes]]:
        index = EK_CERTIFICATE_NV[self.tpm.ek_template]
        return [(index, der) for der in self.tpm.ek_certificates]

    def endorsement_chain(self) -> Sequence[bytes]:
        return self.tpm.ek_chain

    def ek_public(self, template_name: str) -> bytes:
        assert template_name == self.tpm.ek_template
        return self.tpm.ek_public.encode()

    @contextmanager
    def primary(self, template: bytes) -> Iterator[FakeKey]:
        with self._slot({AK: self.tpm.ak, BIRTH_KEY: self.tpm.birth_key}[template]) as key:
            yield key

    def activate(self, template_name: str, ak: FakeKey, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        assert (template_name, ak.key) == (self.tpm.ek_template, self.tpm.ak)
        self.most_loaded = max(self.most_loaded, self.loaded + 1)
        return self.tpm.activate(credential_blob, encrypted_secret)

    def certify(self, key: FakeKey, ak: FakeKey, qualifying_data: bytes) -> tuple[bytes, bytes]:
        statement = self.tpm.certify(key.key, qualifying_data)
        return statement.attest, statement.signature

    def quote(self, ak: FakeKey, pcrs: Sequence[int], qualifying_data: bytes) -> tuple[bytes, bytes]:
        statement = self.tpm.quote(pcrs, qualifying_data)
        return statement.attest, statement.signature

    def create_operational_key(self) -> bytes:
        pem = b"key %d" % len(self.keys)
        self.keys[pem] = self.tpm.new_operational_key()
        return pem

    @contextmanager
    def load(self, pem: bytes) -> Iterator[FakeKey]:
        if pem not in self.keys:
            raise KeyNotOfThisTpm("made by another TPM")
        with self._slot(self.keys[pem]) as key:
            yield key

    def read_birth_certificate(self) -> tuple[bytes, ...]:
        return self.nv

    def write_birth_certificate(self, chain: Sequence[bytes]) -> None:
        self.nv = tuple(chain)

    @contextmanager
    def opened(self) -> "Iterator[FakeTpm]":
        """What open_tpm gives."""
        yield self

    @contextmanager
    def _slot(self, key: SoftwareKey) -> Iterator[FakeKey]:
        self.loaded += 1
        self.most_loaded = max(self.most_loaded, self.loaded)
        assert self.loaded <= 3, "a bare TPM has three slots"
        try:
            yield FakeKey(key)
        finally:
            self.loaded -= 1


@dataclass
class CoreConnection:
    """http.Connection straight into the server's core, as `identity` (None: without a certificate)."""

    core: Core
    identity: Identity | None = None
    asked: list[str] = field(default_factory=list)

    def request(self, method: str, path: str, *, body: bytes = b"", mime: str = "", accept: str = "") -> Answer:
        self.asked.append(path.rpartition("/")[2])
        try:
            return self._serve(path, body)
        except BirthmarkError as error:
            raise Refused(Problem(403, error.code, "", str(error), "r-1", 0.0)) from None

    def _serve(self, path: str, body: bytes) -> Answer:
        services, operation = self.core.services, path.rpartition("/")[2]
        if path == ENROLLMENTS_PATH:
            return Answer(201, JSON_MIME, services.enrollment.begin(body, STRANGER), 0.0)
        if path.endswith(ACTIVATION_SUFFIX):
            enrollment_id = path.removeprefix(f"{ENROLLMENTS_PATH}/").removesuffix(ACTIVATION_SUFFIX)
            return Answer(200, JSON_MIME, services.enrollment.finish(enrollment_id, body, STRANGER), 0.0)
        if operation == est.CACERTS:
            cas = services.authority.in_force.ca_certificates
            return Answer(200, est.PKCS7_MIME, base64.b64encode(certs_only(cas)), 0.0)
        if operation == est.NONCE:
            return Answer(200, est.NONCE_MIME, services.renewal.nonce(self._caller()).encode(), 0.0)
        enroll = {est.SIMPLEENROLL: services.renewal.enroll, est.SIMPLEREENROLL: services.renewal.reenroll}[operation]
        issued = certs_only([enroll(base64.b64decode(body), self._caller())])
        return Answer(200, est.PKCS7_MIME, base64.encodebytes(issued), 0.0)

    def _caller(self) -> Caller:
        assert self.identity is not None
        return self.core.caller(self.identity)


def root_der(core: Core) -> bytes:
    """The root certificate."""
    return core.services.authority.root.certificate.public_bytes(Encoding.DER)
