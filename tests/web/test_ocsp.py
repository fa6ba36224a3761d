"""The responder: what it says, what it keeps, and when it throws that away."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from birthmark_server.ca.ocsp import Trouble
from birthmark_server.domain import Caller, CertificateProfile, CertificateStatus, RevocationReason
from birthmark_server.store.errors import StoreBusy, StoreFailed
from birthmark_server.web.doors import Answer, Call, Router
from birthmark_server.web.ocsp import REQUEST_MIME, OcspResponder, Said
from support.core import Core
from support.pki import Leaf
from support.server import Clock, Installation

Status = ocsp.OCSPCertStatus


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    clock = Clock()
    with Installation.create(tmp_path) as site, site.services(clock) as services:
        services.ocsp.refresh()
        yield Core(site, services, clock)


def station(core: Core, name: str = "line-1") -> Leaf:
    return core.site.infra(CertificateProfile.STATION, name)


def question(leaf: Leaf, issuer: x509.Certificate, *, nonce: bytes | None = None) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf.certificate, issuer, hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def ask(core: Core, leaf: Leaf, *, nonce: bytes | None = None) -> ocsp.OCSPResponse:
    said = core.services.ocsp.answer(question(leaf, core.site.pki.authority.infra.certificate, nonce=nonce))
    assert isinstance(said, Said)
    return ocsp.load_der_ocsp_response(said.der)


def revoke(core: Core, leaf: Leaf) -> None:
    reason = RevocationReason.KEY_COMPROMISE
    core.store.revoke_certificate(leaf.record.sha256, reason=reason, at=core.clock(), by="alice")


def test_an_answer_is_signed_by_a_signer_that_the_issuer_certified(core: Core) -> None:
    infra = core.site.pki.authority.infra
    answer = ask(core, station(core))
    (signer,) = answer.certificates
    signer.verify_directly_issued_by(infra.certificate)
    key = signer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert answer.certificate_status is Status.GOOD
    assert answer.next_update_utc == core.clock().replace(microsecond=0) + timedelta(hours=1)
    found = core.store.certificate_by_sha256(signer.fingerprint(hashes.SHA256()).hex())
    assert found is not None
    assert (found[0].profile, found[0].issued_by) == (CertificateProfile.OCSP, "service:ocsp")


def test_a_revocation_by_another_process_is_answered_at_the_next_look(core: Core) -> None:
    leaf = station(core)
    assert ask(core, leaf).certificate_status is Status.GOOD
    with core.site.services(core.clock) as another_process:
        another_process.store.revoke_certificate(
            leaf.record.sha256, reason=RevocationReason.SUPERSEDED, at=core.clock(), by="alice"
        )
    assert ask(core, leaf).certificate_status is Status.GOOD  # kept for a second at most
    core.services.ocsp.refresh()
    answer = ask(core, leaf)
    assert (answer.certificate_status, answer.revocation_reason) == (Status.REVOKED, x509.ReasonFlags.superseded)
    assert answer.revocation_time_utc == core.clock().replace(microsecond=0)


def test_an_answer_is_signed_once_until_half_of_its_time_is_over(core: Core) -> None:
    leaf = station(core)
    first = ask(core, leaf).tbs_response_bytes
    core.clock.forward(minutes=29)
    assert ask(core, leaf).tbs_response_bytes == first
    core.clock.forward(minutes=2)
    assert ask(core, leaf).tbs_response_bytes != first


def test_what_was_read_before_a_revocation_is_not_kept_after_it(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look comes between the reading of `good` and its keeping."""
    leaf = station(core)
    read = core.store.certificate_status

    def slow(issuer: str, number: str) -> CertificateStatus | None:
        status = read(issuer, number)
        revoke(core, leaf)
        core.services.ocsp.refresh()
        return status

    with monkeypatch.context() as slowed:
        slowed.setattr(core.store, "certificate_status", slow)
        assert ask(core, leaf).certificate_status is Status.GOOD  # asked before the revocation
    assert ask(core, leaf).certificate_status is Status.REVOKED


def test_a_nonce_is_repeated_in_an_answer_of_its_own(core: Core) -> None:
    leaf = station(core)
    nonces = [b"a" * 16, b"b" * 16]
    answers = [ask(core, leaf, nonce=nonce) for nonce in nonces]
    assert [answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce for answer in answers] == nonces


def test_a_serial_number_that_was_never_issued_is_revoked_and_says_so(core: Core) -> None:
    never = core.site.pki.infra(CertificateProfile.STATION, "line-9")  # signed, and not on record
    answer = ask(core, never)
    assert (answer.certificate_status, answer.revocation_reason) == (Status.REVOKED, x509.ReasonFlags.certificate_hold)
    assert answer.revocation_time_utc is not None
    assert answer.revocation_time_utc.year == 1970
    assert [extension.oid.dotted_string for extension in answer.extensions] == ["1.3.6.1.5.5.7.48.1.9"]
    core.store.add_infrastructure_certificate(never.record, by="alice")
    assert ask(core, never).certificate_status is Status.GOOD  # that it was unknown is not kept


def test_every_issuing_ca_has_a_signer_of_its_own(core: Core) -> None:
    authority = core.site.pki.authority
    tpm, _ = core.listed()
    identity = core.enroll(tpm)
    for issuer, certificate in (
        (authority.birth, identity.certificate),
        (authority.fleet, core.site.pki.device().certificate),
        (authority.infra, station(core).certificate),
    ):
        request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer.certificate, hashes.SHA256()).build()
        said = core.services.ocsp.answer(request.public_bytes(Encoding.DER))
        assert isinstance(said, Said)
        (signer,) = ocsp.load_der_ocsp_response(said.der).certificates
        signer.verify_directly_issued_by(issuer.certificate)


def test_a_quarantined_devices_certificates_are_good(core: Core) -> None:
    """ADR 0025: they are not revoked."""
    tpm, device_id = core.listed()
    identity = core.enroll(tpm)
    core.store.quarantine_device(device_id, at=core.clock(), by="alice")
    birth = core.site.pki.authority.birth
    request = ocsp.OCSPRequestBuilder().add_certificate(identity.certificate, birth.certificate, hashes.SHA256())
    core.services.ocsp.refresh()
    said = core.services.ocsp.answer(request.build().public_bytes(Encoding.DER))
    assert isinstance(said, Said)
    assert ocsp.load_der_ocsp_response(said.der).certificate_status is Status.GOOD


def test_a_signer_is_renewed_in_the_middle_of_its_time(core: Core) -> None:
    leaf = station(core)
    (first,) = ask(core, leaf).certificates
    core.clock.forward(hours=23)
    core.services.ocsp.refresh()
    assert ask(core, leaf).certificates == [first]
    core.clock.forward(hours=2)
    core.services.ocsp.refresh()
    assert ask(core, leaf).certificates != [first]


def test_no_answer_outlives_its_signer(core: Core) -> None:
    leaf = station(core)
    core.clock.forward(hours=47.5)  # and nobody renewed it
    answer = ask(core, leaf)
    (signer,) = answer.certificates
    assert answer.next_update_utc == signer.not_valid_after_utc
    core.clock.forward(hours=1)
    infra = core.site.pki.authority.infra.certificate
    assert core.services.ocsp.answer(question(leaf, infra)) is Trouble.TRY_LATER


@pytest.mark.parametrize("failure", [StoreFailed("gone"), StoreBusy("locked", retry_after_s=1)])
def test_a_database_that_does_not_answer_means_try_later(
    core: Core, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    leaf, infra = station(core), core.site.pki.authority.infra.certificate

    def fail(*_: str) -> CertificateStatus:
        raise failure

    monkeypatch.setattr(core.store, "certificate_status", fail)
    assert core.services.ocsp.answer(question(leaf, infra)) is Trouble.TRY_LATER


def test_while_revocations_can_not_be_seen_nothing_is_kept(
    core: Core, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leaf = station(core)
    ask(core, leaf)

    def fail(_: str) -> int:
        raise StoreFailed("gone")

    with monkeypatch.context() as broken:
        broken.setattr(core.store, "count_revoked", fail)
        revoke(core, leaf)
        for _ in range(3):
            core.services.ocsp.refresh()
    assert ask(core, leaf).certificate_status is Status.REVOKED
    failures = [record for record in caplog.records if record.message == "ocsp not refreshed"]
    assert len(failures) == len(core.site.pki.authority.issuers)  # once a minute


def test_before_there_is_a_signer_the_answer_is_try_later(core: Core) -> None:
    responder = OcspResponder(
        store=core.store, authority=core.site.pki.authority, lifetime=timedelta(hours=1), now=core.clock
    )
    assert responder.answer(question(station(core), core.site.pki.authority.infra.certificate)) is Trouble.TRY_LATER


def test_an_issuer_that_is_none_of_ours_is_unauthorized(core: Core) -> None:
    leaf = station(core)
    assert core.services.ocsp.answer(question(leaf, core.site.pki.authority.root.certificate)) is Trouble.UNAUTHORIZED


@contextmanager
def full_after(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as small:
        small.setattr("birthmark_server.web.ocsp.MOST_KEPT", number)
        yield


def test_what_is_kept_is_bounded(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = [station(core, f"line-{number}") for number in range(5)]
    with full_after(2, monkeypatch):
        for leaf in leaves:
            ask(core, leaf)
    kept = [len(desk.said) for desk in core.services.ocsp._desks]
    assert sum(kept) in (1, 2)


# -- over HTTP


def over_http(core: Core, method: str, path: str, **call: object) -> Answer:
    route, argument = Router(core.services.ocsp.routes()).find(method, path)
    asked = Call("r", "192.0.2.1", argument=argument, **call)  # type: ignore[arg-type]
    return route.handler(asked, Caller("r", "192.0.2.1"))


def status_of(answer: Answer) -> ocsp.OCSPResponseStatus:
    assert (answer.status, answer.media_type) == (200, "application/ocsp-response")
    return ocsp.load_der_ocsp_response(answer.body).response_status


@pytest.mark.parametrize("encode", [lambda text: text, quote, lambda text: quote(text, safe="")])
def test_a_get_is_understood_however_much_of_it_is_percent_encoded(core: Core, encode: "type[str]") -> None:
    infra = core.site.pki.authority.infra.certificate
    for number in range(30):  # among them are requests with + and / in their base64
        text = b64encode(question(station(core, f"line-{number}"), infra)).decode()
        answer = over_http(core, "GET", f"/pki/ocsp/{encode(text)}")
        assert status_of(answer) is ocsp.OCSPResponseStatus.SUCCESSFUL


def test_a_get_tells_caches_what_rfc_5019_wants_and_a_post_is_not_cached(core: Core) -> None:
    request = question(station(core), core.site.pki.authority.infra.certificate)
    path = f"/pki/ocsp/{quote(b64encode(request), safe='')}"
    headers = dict(over_http(core, "GET", path).headers)
    assert headers["Cache-Control"] == "max-age=60, public, no-transform, must-revalidate"
    assert {"Last-Modified", "Expires", "ETag"} < headers.keys()
    again = over_http(core, "GET", path, if_none_match=headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    posted = over_http(core, "POST", "/pki/ocsp", body=request, media_type=REQUEST_MIME)
    assert status_of(posted) is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert dict(posted.headers) == {"Cache-Control": "no-store"}


@pytest.mark.parametrize(
    ("method", "path", "body", "media_type"),
    [
        ("GET", "/pki/ocsp/!!!!", b"", ""),
        ("GET", "/pki/ocsp/AAAA", b"", ""),
        ("GET", "/pki/ocsp/" + "A" * 1028, b"", ""),
        ("POST", "/pki/ocsp", b"no DER", REQUEST_MIME),
        ("POST", "/pki/ocsp", b"", REQUEST_MIME),
        ("POST", "/pki/ocsp", b"no DER", "text/plain"),
    ],
)
def test_what_is_no_request_is_malformed_and_not_cached(
    core: Core, method: str, path: str, body: bytes, media_type: str
) -> None:
    answer = over_http(core, method, path, body=body, media_type=media_type)
    assert status_of(answer) is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    assert dict(answer.headers) == {"Cache-Control": "no-store"}
