"""What operators do at a real server, and what it makes of those who are none, or not that one."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.roles import PROFILE_OF, ROLE_OF, Role
from birthmark_server.web.api.routes import OPERATIONS
from integration.conftest import LIMITS
from support.pki import Leaf, make_pki
from support.server import MODEL, Client, Installation, Reply, Server, now, sha256_hex

JSON = "application/json"
EVERY_OPERATION = [(method, path, roles) for method, path, roles, _, _ in OPERATIONS]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation.create(tmp_path_factory.mktemp("operators")) as installation:
        yield installation


@pytest.fixture(scope="module")
def server(site: Installation) -> Iterator[Server]:
    deny = deny_file(site)
    deny.replace(lambda: Denials(devices=set(), serials=set()))
    certificate, key = site.infra(CertificateProfile.DENY_LIST, "srv-deny-list").write(site.folder, "deny-list")
    broker = f'deny_file = "{deny.path}"\ndeny_certificate = "{certificate}"\ndeny_key = "{key}"'
    with site.start(extra=LIMITS, broker=broker) as running:
        yield running


def deny_file(site: Installation) -> DenyFile:
    """What the broker reads."""
    return DenyFile(site.folder / "deny", signer=site.pki.deny_signer())


@pytest.fixture(scope="module")
def people(site: Installation) -> dict[Role, Leaf]:
    """One operator of each role."""
    return {role: site.infra(profile, f"the-{role}") for role, profile in PROFILE_OF.items()}


@pytest.fixture
def officer(server: Server, people: dict[Role, Leaf]) -> Iterator[Client]:
    with server.connect(people[Role.SECURITY_OFFICER]) as client:
        yield client


def post(client: Client, path: str, body: object = None, **headers: str) -> Reply:
    if body is None:
        return client.ask("POST", path, b"", **headers)
    return client.ask("POST", path, json.dumps(body).encode(), content_type=JSON, **headers)


def get(client: Client, path: str) -> Any:
    reply = client.ask("GET", path)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


# -- what operators get


@pytest.fixture(scope="module")
def fleet(server: Server, site: Installation) -> list[str]:
    """Three enrolled devices; the first has an operational certificate."""
    for number in range(3):
        tpm = site.listed_device(f"SN-F{number}")
        born = server.enroll(tpm)
        if number == 0:
            server.first_ldevid(tpm, born, "dev-sn-f0")
    return [f"dev-sn-f{number}" for number in range(3)]


def test_devices_are_listed_with_their_tags_and_their_health(officer: Client, fleet: list[str]) -> None:
    assert json.loads(post(officer, f"/v1/devices/{fleet[0]}/tags", {"add": ["plant-7", "blue"]}).body)["tags"] == [
        "blue",
        "plant-7",
    ]
    (device,) = get(officer, "/v1/devices?tag=plant-7&tag=blue")["items"]
    assert device["device_id"] == fleet[0]
    assert device["health"]["days_left"] in (29, 30)
    assert device["health"]["next_action"] == "renewal"
    assert device["health"]["issued_by"].startswith("fleet-")
    detail = get(officer, f"/v1/devices/{fleet[1]}")
    assert detail["device"]["health"]["next_action"] == "first-certificate"
    assert detail["evidence"][0]["parts"]
    assert [c["profile"] for c in detail["certificates"]] == ["idevid"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("expiring_before=40d", [0]),
        ("expiring_before=1d", []),
        ("never_rotated=true&tag=plant-7", [0]),
        ("last_seen_before=1d", []),
        ("last_seen_before=2099-01-01T00:00:00Z&model=model-a", [0, 1, 2]),
        ("state=active&batch=none", []),
    ],
)
def test_devices_are_filtered(officer: Client, fleet: list[str], query: str, expected: list[int]) -> None:
    post(officer, f"/v1/devices/{fleet[0]}/tags", {"add": ["plant-7"]})
    found = [device["device_id"] for device in get(officer, f"/v1/devices?{query}")["items"]]
    assert [name for name in found if name in fleet] == [fleet[number] for number in expected]


def test_pages_hang_together_while_devices_come(
    server: Server, officer: Client, fleet: list[str], site: Installation
) -> None:
    before = {device["device_id"] for device in get(officer, "/v1/devices?limit=500")["items"]}
    seen: list[str] = []
    path, number = "/v1/devices?limit=1", 0
    while path:
        page = get(officer, path)
        seen += [device["device_id"] for device in page["items"]]
        for serial in (f"SN-A{number}", f"SN-Z{number}") if number < 2 else ():  # one before, one behind this place
            server.enroll(site.listed_device(serial))
        number += 1
        size = 1 + number % 2  # another size goes on at the same place
        path = f"/v1/devices?limit={size}&cursor={page['next']}" if page["next"] else ""
    assert len(seen) == len(set(seen))
    assert before <= set(seen)
    assert {"dev-sn-z0", "dev-sn-z1"} <= set(seen)
    assert seen == sorted(seen)


def test_a_group_is_asked_anew_each_time(officer: Client, fleet: list[str]) -> None:
    body = {"name": "reds", "query": {"tag": ["red"], "last_seen_before": "0d"}}
    assert post(officer, "/v1/groups", body).code == "malformed"
    body["query"] = {"tag": ["red"]}
    assert post(officer, "/v1/groups", body).status == 201
    assert get(officer, "/v1/devices?group=reds")["items"] == []
    post(officer, f"/v1/devices/{fleet[1]}/tags", {"add": ["red"]})
    assert [d["device_id"] for d in get(officer, "/v1/devices?group=reds")["items"]] == [fleet[1]]
    assert get(officer, "/v1/devices?group=reds&tag=plant-9")["items"] == []
    assert get(officer, "/v1/groups/reds")["saved_by"] == "the-security-officer"
    assert post(officer, "/v1/groups", {"name": "reds", "query": {}}).code == "already-exists"
    assert officer.ask("DELETE", "/v1/groups/reds").status == 204
    assert officer.ask("GET", "/v1/devices?group=reds").code == "unknown-group"


def test_a_device_is_revoked_and_readmitted_in_the_operators_name_and_the_broker_told(
    server: Server, site: Installation, people: dict[Role, Leaf]
) -> None:
    tpm = site.listed_device("SN-CUT")
    ldevid = server.first_ldevid(tpm, server.enroll(tpm), "dev-sn-cut")
    with server.connect(people[Role.OPERATOR]) as client:
        cut = json.loads(post(client, "/v1/devices/dev-sn-cut/revoke", {"reason": "keyCompromise"}).body)
        assert (cut["device"]["state"], cut["certificates"], cut["by"], cut["broker"]) == (
            "revoked", 2, "the-operator", "",
        )  # fmt: skip
        assert f"{ldevid.certificate.serial_number:x}" in deny_file(site).read().serials
        assert site.store.device_revocations("dev-sn-cut")[0].by == "the-operator"
        assert json.loads(post(client, "/v1/devices/dev-sn-cut/readmit").body)["device"]["state"] == "active"
        assert post(client, "/v1/devices/dev-sn-cut/readmit").code == "illegal-move"
        denied = post(client, "/v1/denials", {"device_id": "dev-sn-cut", "reason": "stolen"})
        assert (denied.status, json.loads(denied.body)["devices"]) == (201, ["dev-sn-cut"])
        assert get(client, "/v1/denials")["items"][-1]["denied_by"] == "the-operator"
    assert b"certificate-revoked" in server.ask("GET", "/.well-known/est/nonce", by=ldevid).body


def test_a_quarantine_shuts_every_door_and_the_broker_and_its_end_opens_them(
    server: Server, site: Installation, people: dict[Role, Leaf]
) -> None:
    tpm = site.listed_device("SN-ODD")
    ldevid = server.first_ldevid(tpm, server.enroll(tpm), "dev-sn-odd")
    with server.connect(people[Role.OPERATOR]) as client:
        assert post(client, "/v1/devices/dev-sn-odd/quarantine", {}).code == "malformed"  # without a word why
        done = json.loads(post(client, "/v1/devices/dev-sn-odd/quarantine", {"note": "odd traffic"}).body)
        assert (done["device"]["state"], done["certificates"], done["broker"]) == ("quarantined", 0, "")
        assert done["device"]["health"]["next_action"] == "operator-restores"
        assert "dev-sn-odd" in deny_file(site).read().devices
        assert b"owner-not-active" in server.ask("GET", "/.well-known/est/nonce", by=ldevid).body
        done = json.loads(post(client, "/v1/devices/dev-sn-odd/restore").body)
        assert (done["device"]["state"], done["by"], done["broker"]) == ("active", "the-operator", "")
        assert "dev-sn-odd" not in deny_file(site).read().devices
        assert server.ask("GET", "/.well-known/est/nonce", by=ldevid).status == 200
        assert post(client, "/v1/devices/dev-sn-odd/restore").code == "illegal-move"
        (quarantine,) = get(client, "/v1/devices/dev-sn-odd")["revocations"]
    assert (quarantine["state"], quarantine["note"], quarantine["lifted_by"]) == (
        "quarantined", "odd traffic", "the-operator",
    )  # fmt: skip


def test_a_device_is_retired_for_the_reasons_that_a_retirement_can_have(
    server: Server, site: Installation, people: dict[Role, Leaf]
) -> None:
    server.enroll(site.listed_device("SN-OLD"))
    with server.connect(people[Role.OPERATOR]) as client:
        assert post(client, "/v1/devices/dev-sn-old/retire", {"reason": "keyCompromise"}).code == "malformed"
        assert post(client, "/v1/devices/dev-sn-old/revoke", {"reason": "cessationOfOperation"}).code == "malformed"
        done = json.loads(post(client, "/v1/devices/dev-sn-old/retire", {"note": "scrapped"}).body)
        assert (done["device"]["state"], done["certificates"]) == ("retired", 1)
        shown = get(client, "/v1/devices/dev-sn-old")
        assert (shown["revocations"][0]["state"], shown["revocations"][0]["note"]) == ("retired", "scrapped")
        assert {one["reason"] for one in shown["certificates"]} == {"cessationOfOperation"}
        assert json.loads(post(client, "/v1/devices/dev-sn-old/readmit").body)["device"]["state"] == "active"


def test_what_is_denied_must_be_named(officer: Client) -> None:
    assert post(officer, "/v1/denials", {"reason": "because"}).code == "malformed"
    assert post(officer, "/v1/denials", {"device_id": "nobody", "reason": "because"}).code == "unknown-device"


def test_a_board_swap_takes_two(server: Server, site: Installation, people: dict[Role, Leaf], officer: Client) -> None:
    server.enroll(site.listed_device("SN-SWAP"))
    with server.connect(people[Role.OPERATOR]) as operator:
        asked = post(operator, "/v1/devices/dev-sn-swap/swap", {"new_ek_sha256": "5" * 64})
        assert asked.status == 201
        assert post(operator, "/v1/devices/dev-sn-swap/swap/approval", {}).code == "same-operator"
    other = post(officer, "/v1/devices/dev-sn-swap/swap/approval", {"new_ek_sha256": "5" * 64})
    assert json.loads(other.body)["swap"]["approved_by"] == "the-security-officer"


def test_who_may_enroll_is_set_up_from_afar(server: Server, site: Installation, people: dict[Role, Leaf]) -> None:
    tpm = site.tpm()
    entry = {"serial": "SN-AFAR", "model": MODEL.name, "ek_sha256": tpm.ek_sha256}
    with server.connect(people[Role.FACTORY]) as factory:
        done = post(factory, "/v1/manifest", {"entries": [entry]})
        assert (done.status, json.loads(done.body)) == (201, {"lines": 1, "new": 1, "imported_by": "the-factory"})
        clash = {**entry, "serial": "SN-OTHER"}
        assert post(factory, "/v1/manifest", {"entries": [clash]}).code == "manifest-conflict"
        twice = [entry | {"serial": "SN-X"}, entry | {"serial": "SN-Y"}]
        assert post(factory, "/v1/manifest", {"entries": twice}).code == "malformed"
        batch = post(factory, "/v1/batches", {"name": "2027-W1", "model": MODEL.name, "quota": 5, "open_for_s": 3600})
        assert json.loads(batch.body)["opened_by"] == "the-factory"
        assert json.loads(post(factory, "/v1/batches/2027-W1/close").body)["closed_by"] == "the-factory"
    assert server.enroll(tpm).der


def test_a_manifest_may_be_larger_than_any_other_body(server: Server, people: dict[Role, Leaf]) -> None:
    entries = [
        {"serial": f"SN-BIG-{number}", "model": MODEL.name, "ek_sha256": sha256_hex(f"{number}".encode())}
        for number in range(3000)
    ]
    with server.connect(people[Role.FACTORY]) as factory:
        assert json.loads(post(factory, "/v1/manifest", {"entries": entries}).body)["new"] == 3000
        assert post(factory, "/v1/batches", {"name": "x" * 70_000}).code == "body-too-large"


def test_nobody_else_is_listened_to_for_that_long(server: Server, site: Installation, people: dict[Role, Leaf]) -> None:
    device = server.enroll(site.listed_device("SN-LOUD"))
    for who, code in ((None, "certificate-required"), (device, "certificate-misused"), (people[Role.VIEWER], None)):
        reply = announce(server, who, length=30 << 20)
        assert (reply.status, reply.code) == (403, code or "role-not-allowed")
    assert announce(server, people[Role.FACTORY], length=33 << 20).code == "body-too-large"


def announce(server: Server, who: Any, *, length: int) -> Reply:
    """Say that an import of so many bytes comes, send its first ones, and return the answer to that."""
    with server.connect(who) as client:
        client.connection.putrequest("POST", "/v1/manifest")
        client.connection.putheader("Content-Type", JSON)
        client.connection.putheader("Content-Length", str(length))
        client.connection.endheaders(b'{"entries": [')
        response = client.connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())


# -- operators


def csr_of(key: ec.EllipticCurvePrivateKey) -> str:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_an_officer_makes_an_operator_who_works_until_revoked(
    server: Server, site: Installation, officer: Client
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = post(officer, "/v1/operators", {"name": "carol", "role": "operator", "csr": csr_of(key)})
    assert made.status == 201, made.body
    answer = json.loads(made.body)
    assert (answer["operator"]["role"], answer["operator"]["issued_by"]) == ("operator", "the-security-officer")
    certificate = x509.load_pem_x509_certificate(answer["chain"].encode())
    record = site.store.certificate_by_sha256(answer["operator"]["sha256"])
    assert record is not None
    carol = Leaf(key, certificate, certificate.public_bytes(Encoding.DER), answer["chain"].encode(), record[0])
    with server.connect(carol) as client:
        assert get(client, "/v1/status")["devices"]["denied"] >= 0
        assert post(client, "/v1/operators", {"name": "x", "role": "viewer", "csr": ""}).code == "role-not-allowed"
        revoked = post(officer, "/v1/operators/carol/revoke", {"reason": "affiliationChanged"})
        assert json.loads(revoked.body)["certificates"] == 1
        assert client.ask("GET", "/v1/status").code == "certificate-revoked"  # on the same connection
    assert post(officer, "/v1/operators/carol/revoke", {}).code == "unknown-operator"
    names = [one["name"] for one in get(officer, "/v1/operators")["items"]]
    assert {"carol", "the-viewer", "the-security-officer"} <= set(names)


def test_a_request_that_proves_no_key_makes_no_operator(officer: Client) -> None:
    mine, other = (csr_of(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    lines, wrong = mine.splitlines(), other.splitlines()
    forged = "\n".join([*lines[:-2], wrong[-2], lines[-1]])
    for csr in ("", "garbage", forged, csr_of(ec.generate_private_key(ec.SECP521R1()))):
        refused = post(officer, "/v1/operators", {"name": "mallory", "role": "viewer", "csr": csr})
        assert refused.status in (400, 403), refused.body
    for name in ("srv-x", "A B", "", "x" * 65):
        good = csr_of(ec.generate_private_key(ec.SECP256R1()))
        assert post(officer, "/v1/operators", {"name": name, "role": "viewer", "csr": good}).status in (400, 403), name


# -- who is none, or not that one


@pytest.mark.parametrize(("method", "path", "roles"), EVERY_OPERATION)
def test_every_operation_is_for_its_roles_only(
    server: Server, people: dict[Role, Leaf], method: str, path: str, roles: frozenset[Role]
) -> None:
    for role, leaf in people.items():
        reply = server.ask(method, path.replace("{id}", "nobody"), by=leaf)
        if role in roles:
            assert reply.status in (200, 400, 404, 409, 415, 422), (role, reply.body)
        else:
            assert (reply.status, reply.code) == (403, "role-not-allowed"), role


def test_an_operator_without_a_role_may_read_and_no_more(server: Server, site: Installation) -> None:
    plain = site.infra(CertificateProfile.OPERATOR, "from-before")
    assert ROLE_OF[CertificateProfile.OPERATOR] is Role.VIEWER
    assert server.ask("GET", "/v1/devices", by=plain).status == 200
    for method, path, roles in EVERY_OPERATION:
        if Role.VIEWER not in roles:
            assert server.ask(method, path.replace("{id}", "x"), by=plain).code == "role-not-allowed", path


def test_strangers_the_expired_the_revoked_and_devices_get_nowhere(
    server: Server, site: Installation, people: dict[Role, Leaf]
) -> None:
    profile = CertificateProfile.SECURITY_OFFICER
    expired = site.pki.infra(profile, "late", now=now() - timedelta(days=2), lifetime=timedelta(days=1))
    site.store.add_infrastructure_certificate(expired.record, by="alice")
    revoked = site.infra(profile, "gone")
    site.store.revoke_certificate(revoked.record.sha256, reason=RevocationReason.SUPERSEDED, at=now(), by="alice")
    unrecorded = site.pki.infra(profile, "nobody")
    station = site.infra(CertificateProfile.STATION, "line-9")
    device = server.enroll(site.listed_device("SN-NOSY"))
    for who, code in (
        (None, "certificate-required"),
        (revoked, "certificate-revoked"),
        (unrecorded, "certificate-unknown"),
        (station, "certificate-misused"),
        (device, "certificate-misused"),
    ):
        assert server.ask("GET", "/v1/devices", by=who).code == code
        assert server.ask("POST", "/v1/devices/dev-sn-nosy/revoke", b"{}", by=who, content_type=JSON).code == code
    with pytest.raises(OSError, match=r"(?i)certificate.expired|reset|closed"):
        server.ask("GET", "/v1/devices", by=expired)
    assert site.store.device_revocations("dev-sn-nosy") == []


def test_another_installations_officer_is_refused_at_the_handshake(server: Server, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "ca").infra(CertificateProfile.SECURITY_OFFICER, "eve")
    with pytest.raises(OSError, match=r"(?i)unknown.ca|reset|closed|decrypt"):
        server.ask("GET", "/v1/devices", by=other)


def test_only_an_officer_revokes_the_infrastructures_certificates(
    server: Server, site: Installation, people: dict[Role, Leaf]
) -> None:
    victim = site.infra(CertificateProfile.STATION, "line-5").record.sha256
    with server.connect(people[Role.OPERATOR]) as operator:
        assert post(operator, f"/v1/certificates/{victim}/revoke", {}).code == "role-not-allowed"
    with server.connect(people[Role.SECURITY_OFFICER]) as officer:
        done = json.loads(post(officer, f"/v1/certificates/{victim[:16]}/revoke", {"reason": "superseded"}).body)
    assert done["certificate"]["revoked_by"] == "the-security-officer"


# -- what can't be read


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=asleep", "state"),
        ("stat=active", "stat"),
        ("state=active&state=active", "state"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("tag=UPPER", "tag.0"),
        ("&".join("tag=a" for _ in range(9)), "tag"),
        ("expiring_before=soon", "expiring_before"),
        ("expiring_before=2027-01-01T00:00:00", "expiring_before"),
        ("never_rotated=perhaps", "never_rotated"),
        ("group=../etc", "group"),
        ("cursor=AAAA", "cursor"),
        ("model=%00", "model"),
        ("model=%ff", None),
        ("novalue", None),
        ("&".join(f"x{number}=1" for number in range(40)), None),
    ],
)
def test_a_query_that_cannot_be_read_is_refused_by_name(officer: Client, query: str, field: str | None) -> None:
    reply = officer.ask("GET", f"/v1/devices?{query}")
    assert reply.status == 400
    assert json.loads(reply.body).get("field") == field
    assert reply.code == ("bad-cursor" if field == "cursor" else "bad-query")


def test_an_issuer_that_is_none_of_ours_is_named(officer: Client) -> None:
    reply = officer.ask("GET", "/v1/devices?issued_by=nobody")
    assert (reply.status, reply.code) == (404, "unknown-issuer")
    assert "fleet-" in json.loads(reply.body)["detail"]


def test_a_cursor_is_good_for_its_own_query_and_only_as_it_was_given(officer: Client, fleet: list[str]) -> None:
    cursor = get(officer, "/v1/devices?limit=1")["next"]
    flipped = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    longer = cursor + "AAAA"
    for bad in (flipped, longer, cursor[:-4], "=" * 8, "%00", "A" * 513):
        assert officer.ask("GET", f"/v1/devices?limit=1&cursor={bad}").code in ("bad-cursor", "bad-query"), bad
    for path in ("/v1/devices?state=active", "/v1/certificates?limit=1", "/v1/refusals?limit=1"):
        assert officer.ask("GET", f"{path}&cursor={cursor}").code == "bad-cursor"


@pytest.mark.parametrize(
    ("body", "media_type", "code"),
    [
        (b"", JSON, "malformed"),
        (b"[]", JSON, "malformed"),
        (b"{", JSON, "malformed"),
        (b"\xff", JSON, "malformed"),
        (b"[" * 60_000, JSON, "malformed"),
        (b'{"add": ["a"], "add": ["b"]}', JSON, "malformed"),
        (b'{"add": ["a"], "more": 1}', JSON, "malformed"),
        (b'{"add": "a"}', JSON, "malformed"),
        (b'{"add": [1]}', JSON, "malformed"),
        (b'{"add": ["a b"]}', JSON, "malformed"),
        (b'{"add": ["a"]}', "text/plain", "wrong-media-type"),
        (b'{"add": ["' + b"a" * 70_000 + b'"]}', JSON, "body-too-large"),
    ],
)
def test_a_body_that_cannot_be_read_changes_nothing(
    server: Server, people: dict[Role, Leaf], fleet: list[str], body: bytes, media_type: str, code: str
) -> None:
    path = f"/v1/devices/{fleet[2]}/tags"
    reply = server.ask("POST", path, body, by=people[Role.OPERATOR], content_type=media_type)
    assert reply.code == code, reply.body
    with server.connect(people[Role.VIEWER]) as viewer:
        assert get(viewer, f"/v1/devices/{fleet[2]}")["device"]["tags"] == []


def test_a_body_where_none_belongs_is_refused(officer: Client) -> None:
    assert officer.ask("POST", "/v1/devices/x/readmit", b"{}", content_type=JSON).code == "malformed"


# -- idempotency keys


def test_a_request_with_a_key_is_done_once_and_answered_alike(officer: Client, site: Installation) -> None:
    body = {"name": "2027-W2", "model": MODEL.name, "quota": 1, "open_for_s": 3600}
    key = {"Idempotency_Key": "one-2027-W2"}
    first, again = post(officer, "/v1/batches", body, **key), post(officer, "/v1/batches", body, **key)
    assert (first.status, again.status) == (201, 201)
    assert first.body == again.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    other = post(officer, "/v1/batches", body | {"quota": 2}, **key)
    assert (other.status, other.code) == (422, "idempotency-key-reused")
    assert post(officer, "/v1/batches", body).code == "already-exists"  # without a key it is another request


def test_what_was_refused_may_be_tried_again_under_the_same_key(officer: Client, site: Installation) -> None:
    body = {"name": "2027-W3", "model": "model-later", "quota": 1, "open_for_s": 3600}
    assert post(officer, "/v1/batches", body, Idempotency_Key="later").code == "unknown-model"
    assert post(officer, "/v1/models", {"name": "model-later", "ek_template": "p256"}).status == 201
    assert post(officer, "/v1/batches", body, Idempotency_Key="later").status == 201


def test_keys_are_each_callers_own_and_must_be_readable(
    server: Server, officer: Client, people: dict[Role, Leaf]
) -> None:
    body = {"serial": "SN-KEY", "reason": "lost"}
    assert post(officer, "/v1/denials", body, Idempotency_Key="k").status == 201
    with server.connect(people[Role.OPERATOR]) as operator:
        mine = post(operator, "/v1/denials", {"serial": "SN-KEY2", "reason": "lost"}, Idempotency_Key="k")
        assert mine.status == 201
    for bad in ("a b", "x" * 129):
        assert post(officer, "/v1/denials", body, Idempotency_Key=bad).code == "bad-idempotency-key"


def test_many_at_once_under_one_key_make_one(server: Server, site: Installation, people: dict[Role, Leaf]) -> None:
    body = json.dumps({"name": "racers", "query": {"tag": ["x"]}}).encode()

    def ask(_: int) -> Reply:
        return server.ask(
            "POST", "/v1/groups", body, by=people[Role.OPERATOR], content_type=JSON, Idempotency_Key="race"
        )

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(ask, range(6)))
    assert {reply.status for reply in replies} <= {201, 409}
    assert len({reply.body for reply in replies if reply.status == 201}) == 1
    assert all(reply.code == "idempotency-key-in-use" for reply in replies if reply.status == 409)


def test_the_openapi_document_is_served(officer: Client) -> None:
    served = get(officer, "/v1/openapi.json")
    assert served["openapi"] == "3.1.0"
    assert "/v1/devices/{id}/revoke" in served["paths"]
    assert "/v1/time" in served["paths"]
