"""A device's whole life at a real server's door: born, certified, renewed, and every way home."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from birthmark_server.domain import Batch, BoardSwap, CertificateProfile, RevocationReason
from birthmark_wire.enrollment import Challenge, Claim, EnrollRequest
from birthmark_wire.est import BASE_PATH
from support.core import Core
from support.pki import Leaf
from support.server import MODEL, Clock, Identity, Installation, Server, now, sha256_hex
from support.software_tpm import SoftwareTpm


def born(server: Server, serial: str) -> tuple[SoftwareTpm, Identity, str]:
    tpm = server.site.listed_device(serial)
    return tpm, server.enroll(tpm), f"dev-{serial.lower()}"


def test_a_device_is_born_certified_and_renewed(server: Server) -> None:
    tpm, idevid, device_id = born(server, "SN-LIFE")
    first = server.first_ldevid(tpm, idevid, device_id)
    second = server.renew(tpm, first, device_id)
    third = server.renew(tpm, second, device_id)
    assert third.certificate.subject == first.certificate.subject
    assert idevid.certificate.not_valid_after_utc.year == 9999


def test_cacerts_make_the_path_from_a_device_to_the_root(server: Server) -> None:
    tpm, idevid, device_id = born(server, "SN-PATH")
    ldevid = server.first_ldevid(tpm, idevid, device_id).certificate
    cas = server.ask("GET", f"{BASE_PATH}/cacerts").certificates()
    issuers = {ca.subject: ca for ca in cas}
    ldevid.verify_directly_issued_by(issuers[ldevid.issuer])
    issuers[ldevid.issuer].verify_directly_issued_by(issuers[issuers[ldevid.issuer].issuer])


def test_both_requests_travel_on_one_connection(server: Server) -> None:
    tpm = server.site.listed_device("SN-ONE")
    with server.connect() as client:
        begun = client.begin(tpm)
        sock = client.connection.sock
        assert client.finish(tpm, Challenge.decode(begun.body), server.anchor_sha256).status == 200
        assert client.connection.sock is sock


def test_a_repeat_after_a_lost_answer_gets_the_same_bytes(server: Server) -> None:
    tpm = server.site.listed_device("SN-LOST")
    with server.connect() as client:
        challenge = Challenge.decode(client.begin(tpm).body)
        body = tpm.answer(challenge, anchor_sha256=server.anchor_sha256, server_name="localhost").encode()
        first = client.activate(challenge.enrollment_id, body)
    with server.connect() as client:
        again = client.activate(challenge.enrollment_id, body)
        assert (again.status, again.body) == (200, first.body)
        other = client.finish(tpm, challenge, server.anchor_sha256)
        assert (other.status, other.code) == (409, "already-consumed")


# -- the ways home


def test_way_home_after_the_operational_certificate_expired(server: Server, site: Installation) -> None:
    clock = Clock(now() - timedelta(days=60))
    with site.services(clock) as services:
        past = Core(site, services, clock)
        tpm, device_id = past.listed("SN-SHELF")
        idevid = past.enroll(tpm)
        expired = past.first_ldevid(tpm, idevid, device_id)
    chained = Identity((expired.der, *site.pki.authority.chain_for(site.pki.authority.fleet)), expired.key)
    with pytest.raises(OSError, match=r"(?i)certificate expired"):  # the alert says why
        server.est(tpm, chained, device_id, chained.names, "simplereenroll")
    healed = server.first_ldevid(tpm, Identity(idevid.chain, idevid.key), device_id)
    server.renew(tpm, healed, device_id)


def test_way_home_after_the_disk_was_lost(server: Server) -> None:
    """The TPM makes its birth key again; where even NV is empty, attestation gives the very same certificate back."""
    tpm, idevid, device_id = born(server, "SN-DISK")
    server.first_ldevid(tpm, idevid, device_id)
    again = server.enroll(tpm)
    assert again.der == idevid.der
    server.first_ldevid(tpm, again, device_id)


def test_way_home_after_tpm2_clear(server: Server) -> None:
    """Endorsement-hierarchy keys survive a clear of the owner hierarchy: the LDevID's key is gone, nothing else."""
    tpm, idevid, device_id = born(server, "SN-CLEAR")
    server.first_ldevid(tpm, idevid, device_id)
    server.first_ldevid(tpm, idevid, device_id)  # a new operational key, by the birth certificate


def test_way_home_with_a_new_birth_key(server: Server) -> None:
    """A new birth key takes the place of the old one, whose certificates all end; and it may do so once a day."""
    tpm, idevid, device_id = born(server, "SN-REKEY")
    ldevid = server.first_ldevid(tpm, idevid, device_id)
    reset = tpm.reset()
    server.first_ldevid(reset, server.enroll(reset), device_id)
    _, reply = server.est(tpm, idevid, device_id, server.first_names(device_id), "simpleenroll", with_nonce=bytes(32))
    assert (reply.status, reply.code) == (403, "certificate-revoked")
    _, reply = server.est(tpm, ldevid, device_id, ldevid.names, "simplereenroll", with_nonce=bytes(32))
    assert (reply.status, reply.code) == (403, "certificate-revoked")
    with server.connect() as client:
        third = reset.reset()
        finished = client.finish(third, Challenge.decode(client.begin(third).body), server.anchor_sha256)
        assert (finished.status, finished.code) == (429, "rekey-quota")
        assert int(finished.headers["Retry-After"]) > 0


def test_way_home_after_the_idevid_was_revoked_by_mistake(server: Server, site: Installation) -> None:
    tpm, idevid, device_id = born(server, "SN-MISTAKE")
    site.store.revoke_device(device_id, reason=RevocationReason.UNSPECIFIED, at=now(), by="alice")
    with server.connect() as client:
        assert client.begin(tpm).code == "device-not-active"
    _, reply = server.est(tpm, idevid, device_id, server.first_names(device_id), "simpleenroll", with_nonce=bytes(32))
    assert reply.status == 403
    site.store.readmit_device(device_id, at=now(), by="alice")
    reborn = server.enroll(tpm)
    assert reborn.der != idevid.der
    server.first_ldevid(tpm, reborn, device_id)


def test_way_home_after_the_board_was_swapped(server: Server, site: Installation) -> None:
    tpm, idevid, device_id = born(server, "SN-BOARD")
    ldevid = server.first_ldevid(tpm, idevid, device_id)
    board = site.tpm()
    site.store.request_swap(BoardSwap(device_id, board.ek_sha256, "alice", now()))
    site.store.approve_swap(device_id, by="bob", at=now(), expires_at=now() + timedelta(days=1))
    new = server.first_ldevid(board, server.enroll(board), device_id)
    assert new.names == ldevid.names
    _, reply = server.est(tpm, ldevid, device_id, ldevid.names, "simplereenroll", with_nonce=bytes(32))
    assert reply.code == "certificate-revoked"
    with server.connect() as client:
        assert client.begin(tpm).code == "denied-device"


# -- stations


def test_a_station_relays_what_its_batch_admits_and_a_stranger_does_not(server: Server, site: Installation) -> None:
    site.store.open_batch(Batch("lot-7", MODEL.name, 2, 0, "alice", now(), now() + timedelta(hours=1)))
    line = site.infra(CertificateProfile.STATION, "line-7")
    claim = Claim("lot-7", "SN-LOT-1", MODEL.name)
    tpm = site.tpm()
    with server.connect() as client:
        assert client.begin(tpm, claim=claim).code == "claim-without-station"
    server.enroll(tpm, by=line, claim=claim)
    assert site.store.get_device("sn-lot-1").batch == "lot-7"
    site.store.revoke_certificate(sha256_hex(line.der), reason=RevocationReason.KEY_COMPROMISE, at=now(), by="alice")
    with server.connect(line) as client:
        assert client.begin(site.tpm(), claim=replace(claim, serial="SN-LOT-2")).code == "certificate-revoked"


# -- roles, at each door


def test_each_certificate_opens_its_own_doors_only(server: Server, site: Installation) -> None:
    tpm, idevid, device_id = born(server, "SN-DOORS")
    ldevid = server.first_ldevid(tpm, idevid, device_id)
    operator = site.infra(CertificateProfile.OPERATOR, "alice")
    line = site.infra(CertificateProfile.STATION, "line-8")
    doors: dict[tuple[str, str], list[Identity | Leaf]] = {
        ("POST", "/v1/enrollments"): [line],
        ("GET", f"{BASE_PATH}/nonce"): [idevid, ldevid],
        ("POST", f"{BASE_PATH}/simpleenroll"): [idevid],
        ("POST", f"{BASE_PATH}/simplereenroll"): [ldevid],
        ("GET", "/v1/status"): [operator],
    }
    for (method, path), welcome in doors.items():
        for who in (idevid, ldevid, operator, line):
            reply = server.ask(
                method, path, b"x" if method == "POST" else b"", by=who, accept="application/problem+json"
            )
            if who in welcome:
                assert reply.status in (200, 415), (path, reply.body)  # let in; an empty body is another matter
            else:
                assert (reply.status, reply.code) == (403, "certificate-misused"), path


def test_a_certificate_that_is_not_on_record_is_nobodys(server: Server, site: Installation) -> None:
    for leaf in (
        site.pki.device("dev-sn-life"),
        site.pki.birth("SN-LIFE"),
        site.pki.infra(CertificateProfile.OPERATOR, "eve"),
    ):
        reply = server.ask("GET", "/v1/status", by=leaf)
        assert (reply.status, reply.code) == (403, "certificate-unknown")


def test_a_revocation_cuts_a_connection_that_is_open(server: Server, site: Installation) -> None:
    tpm, idevid, device_id = born(server, "SN-OPEN")
    with server.connect(idevid) as client:
        client.nonce()
        site.store.revoke_device(device_id, reason=RevocationReason.KEY_COMPROMISE, at=now(), by="alice")
        reply = client.ask("GET", f"{BASE_PATH}/nonce", accept="application/problem+json")
        assert (reply.status, reply.code) == (403, "certificate-revoked")
    assert tpm


def test_an_operator_sees_the_status(server: Server, site: Installation) -> None:
    reply = server.ask("GET", "/v1/status", by=site.infra(CertificateProfile.OPERATOR, "bob"))
    assert reply.status == 200
    assert b'"protocol":"birthmark/1"' in reply.body


def test_a_request_for_another_server_is_refused(server: Server) -> None:
    tpm = server.site.listed_device("SN-ELSEWHERE")
    with server.connect() as client:
        reply = client.begin(tpm, server_name="enroll.example")
        assert (reply.status, reply.code) == (403, "wrong-server")
    assert EnrollRequest.decode(tpm.enroll_request(server_name="x").encode()).server_name == "x"


def test_refusals_and_requests_leave_a_line_with_the_request_id(server: Server, site: Installation) -> None:
    with server.connect() as client:
        reply = client.begin(site.tpm())
    request_id = reply.headers["X-Request-Id"]
    assert f"request={request_id}" in server.log
    refusals = site.store.list_refusals(code="not-expected")
    assert request_id in [refusal.request_id for refusal in refusals]
    assert isinstance(site.pki.authority.root.certificate, x509.Certificate)
